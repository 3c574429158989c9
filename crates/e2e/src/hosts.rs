//! A host for each member: network namespaces behind one bridge, where the kernel allows them.
//!
//! [`network`](crate::network) breaks what members say to each other from within TCP. Here packets get lost below it,
//! as on a broken switch: no connection is closed, no handshake is answered, and what was under way is sent again when
//! the way is open. A host loses its way to another when its neighbour table names a hardware address that nobody has;
//! that is one direction only, and nobody is told.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A hardware address that no host has.
const NOWHERE: &str = "02:00:00:00:00:01";
/// Number of the test's own side in the network of the hosts.
const OWN: usize = 254;

/// Hosts that see each other and that the test sees. They vanish with this, with all that runs there.
pub struct Hosts {
    /// In the names of everything that is made: interfaces and namespaces.
    mark: String,
    /// The first three numbers of all addresses.
    net: String,
    size: usize,
}

impl Hosts {
    /// So many hosts, at most 99; none where the machine or its rights do not allow it.
    pub fn new(size: usize) -> Option<Self> {
        // What was deleted vanishes a little later, so each has names of its own.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let number = pid.wrapping_add(count.wrapping_mul(7919));
        let hosts = Self {
            // Names of interfaces have at most 15 letters.
            mark: format!("kv{}n{}", pid % 100_000, count % 1000),
            net: format!("10.{}.{}", 64 + number / 250 % 64, number % 250),
            size,
        };
        hosts.build().then_some(hosts)
    }

    fn build(&self) -> bool {
        let (bridge, own) = (self.bridge(), format!("{}.{OWN}/24", self.net));
        let is_there = ip(&["link", "add", &bridge, "type", "bridge"])
            && ip(&["address", "add", &own, "dev", &bridge])
            && ip(&["link", "set", &bridge, "up"]);
        is_there && (0..self.size).all(|place| self.add(place))
    }

    fn add(&self, place: usize) -> bool {
        let (name, address) = (self.name(place), format!("{}/24", self.address(place)));
        ip(&["netns", "add", &name])
            && ip(&[
                "link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &name,
            ])
            && ip(&["link", "set", &name, "master", &self.bridge(), "up"])
            && ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])
            && ip(&["-n", &name, "link", "set", "eth0", "up"])
            && ip(&["-n", &name, "link", "set", "lo", "up"])
    }

    fn bridge(&self) -> String {
        format!("{}b", self.mark)
    }

    fn name(&self, place: usize) -> String {
        format!("{}x{place}", self.mark)
    }

    /// Address of a host.
    pub fn address(&self, place: usize) -> String {
        format!("{}.{}", self.net, place + 1)
    }

    /// What starts a program on a host: its words, before those of the program.
    pub fn wrapper(&self, place: usize) -> Vec<String> {
        let words = ["ip", "netns", "exec", &self.name(place)];
        words.map(str::to_owned).to_vec()
    }

    /// What one host sends to another gets lost from now on.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn lose(&self, from: usize, to: usize) {
        let (name, address) = (self.name(from), self.address(to));
        let entry = [
            "replace",
            &address,
            "lladdr",
            NOWHERE,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ];
        assert!(ip(&[&["-n", &name, "neigh"], &entry[..]].concat()));
    }

    /// Everything arrives again.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn heal(&self) {
        for place in 0..self.size {
            let name = self.name(place);
            assert!(ip(&[
                "-n",
                &name,
                "neigh",
                "flush",
                "dev",
                "eth0",
                "nud",
                "permanent"
            ]));
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for place in 0..self.size {
            ip(&["netns", "delete", &self.name(place)]);
        }
        ip(&["link", "delete", &self.bridge()]);
    }
}

fn ip(words: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(words).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;

    /// Whether a connection from one host to another comes about in so many seconds: a shell opens it.
    fn reaches(hosts: &Hosts, from: usize, port: u16, seconds: &str) -> bool {
        let wrapper = hosts.wrapper(from);
        let script = format!("exec 3<>/dev/tcp/{}.{OWN}/{port}", hosts.net);
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]);
        command.args(["timeout", seconds, "bash", "-c", &script]);
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    #[test]
    fn what_is_lost_arrives_again_when_healed() {
        let Some(hosts) = Hosts::new(1) else {
            eprintln!("no network namespaces here");
            return;
        };
        let listener = TcpListener::bind((format!("{}.{OWN}", hosts.net), 0)).expect("our side");
        let port = listener.local_addr().expect("bound").port();
        assert!(reaches(&hosts, 0, port, "60"));
        // The test's own side has the address behind the last host.
        hosts.lose(0, OWN - 1);
        assert!(!reaches(&hosts, 0, port, "1"));
        hosts.heal();
        assert!(reaches(&hosts, 0, port, "60"));
    }
}
