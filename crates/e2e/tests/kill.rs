//! SIGKILL under load, again and again, also while the server starts: nothing acknowledged is
//! lost, nothing is invented, revisions never go back, watches resume exactly where they stood.

use std::thread;
use std::time::{Duration, Instant};

use kvorum_e2e::dice::Dice;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::recorder::{KILLS, Load, violations};
use kvorum_e2e::server::Server;

/// Every third kill hits a server that is still starting.
const KILLS_AT_START: u32 = 3;
/// Writes that are acknowledged before the next kill, at most.
const WRITES_BETWEEN_KILLS: u64 = 150;
/// A server that acknowledges nothing for this long hangs.
const HANG: Duration = Duration::from_secs(60);

on_each_server!(nothing_acknowledged_is_lost);

fn nothing_acknowledged_is_lost(subject: Subject) {
    let kills = std::env::var("KVORUM_E2E_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let kills: u32 = kills.unwrap_or(KILLS);
    let seed = u64::from(kills);
    let mut dice = Dice::new(seed);
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    let load = Load::start(server.port(), seed);
    let mut start_takes = Duration::from_millis(100);
    let mut at_start = 0;
    for number in 1..=kills {
        wait_for_writes(&load, 1 + dice.below(WRITES_BETWEEN_KILLS));
        server.kill();
        if number % KILLS_AT_START == 0 {
            server.launch();
            // Any moment between the first instruction and the last one before it serves.
            thread::sleep(start_takes.mul_f64(dice.below(1000) as f64 / 1000.0));
            at_start += u32::from(!server.logs(subject.ready_line(), Duration::ZERO));
            server.kill();
        }
        let started = Instant::now();
        server.launch();
        server.wait_ready();
        start_takes = started.elapsed();
    }
    wait_for_writes(&load, 10);
    let writes = load.acknowledged();
    let evidence = load.finish();
    eprintln!(
        "{kills} kills under load, {at_start} more before the server was ready, {writes} writes \
         acknowledged, {} events",
        evidence.events.len()
    );
    let found = violations(&evidence);
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        found.len(),
        found.join("\n")
    );
    assert!(
        kills < 2 * KILLS_AT_START || at_start > 0,
        "no kill hit a starting server"
    );
}

/// Waits until the load has brought through this many more writes.
fn wait_for_writes(load: &Load, more: u64) {
    let goal = load.acknowledged() + more;
    let started = Instant::now();
    while load.acknowledged() < goal {
        assert!(
            started.elapsed() < HANG,
            "no write was acknowledged for {HANG:?}"
        );
        // Short against the time between two kills, long against a spinning core.
        thread::sleep(Duration::from_millis(1));
    }
}
