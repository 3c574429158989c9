//! A run is a function of its seed.

use std::time::Duration;

use kvorum_sim::run;

#[test]
fn same_seed_gives_the_same_log_byte_for_byte() {
    for seed in 1_000..1_006 {
        let run = || run(seed, Duration::from_secs(15), true);
        let (first, second) = (run(), run());
        assert!(
            first.lines.len() > 1_000,
            "seed {seed}: a log too short to show anything"
        );
        let differs = first
            .lines
            .iter()
            .zip(&second.lines)
            .find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.lines.len(), second.lines.len(), "seed {seed}");
        assert_eq!(first.counts, second.counts, "seed {seed}");
    }
}

#[test]
fn watching_a_run_does_not_change_it() {
    let run = |keeps_lines| run(1_000, Duration::from_secs(15), keeps_lines).counts;
    assert_eq!(run(true), run(false));
}
