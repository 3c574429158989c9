//! The network between members, where a test can break it.
//!
//! Each member tells its peers a port of this forwarder instead of its own. Who dialed is found out from the kernel
//! (which process owns the other end of the connection), so nothing of the peer protocol is known here and every
//! connection belongs to two members. What one says to another goes along a [`Path`], one for each direction, so a cut
//! can be one-way: bytes that one side sends wait while the other side's arrive.
//!
//! What is carried is TCP, so a byte is never lost within a connection and never overtakes one of the same connection.
//! Loss is a pause or a connection that breaks with everything under way; reordering is one connection that is later
//! than another between the same members (each pair has several). A new connection needs both directions, as its
//! handshake does; until then the dialer has a connection that says nothing. Bytes that wait are not given up when the
//! dialer has: they arrive after the cut, as late as that is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;
use crate::dice::Dice;

/// Bytes that are taken from a socket at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks of one direction that may be under way; the sender's socket fills up when there are more.
const CHUNKS_MAX: usize = 64;
/// A process may have been started and not be on the list yet: pause before the next look, and how many looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const LOOKS_MAX: u32 = 100;

/// Process of each member by its place; none where none runs.
pub type Residents = Arc<Mutex<BTreeMap<usize, u32>>>;

/// What happens to bytes on their way from one member to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Nothing gets through; it waits.
    pub is_cut: bool,
    /// Every chunk takes so long at least.
    pub delay: Duration,
    /// And up to so much longer, each by chance.
    pub jitter: Duration,
    /// One chunk of so many breaks its connection instead; 0 is none.
    pub broken_one_in: u64,
}

/// State of all paths.
#[derive(Clone, Debug, Default)]
struct Paths {
    /// Those that are not as the default.
    special: BTreeMap<(usize, usize), Path>,
    /// Goes up when every connection is to break.
    breaks: u64,
}

impl Paths {
    fn of(&self, way: Way) -> Path {
        let path = self.special.get(&(way.from, way.to));
        path.copied().unwrap_or_default()
    }
}

/// One direction between two members.
#[derive(Clone, Copy, Debug)]
struct Way {
    from: usize,
    to: usize,
}

impl Way {
    fn back(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }
}

/// The network of one cluster.
pub struct Network {
    paths: watch::Sender<Paths>,
    size: usize,
    broken: Arc<AtomicU64>,
    runtime: Runtime,
}

impl Network {
    /// Comes between the members of a cluster none of which was ever started.
    ///
    /// # Panics
    /// When there are no ports or threads to be had.
    pub fn between(cluster: &mut Cluster, seed: u64) -> Self {
        let network = Self::new(cluster.size());
        for place in 0..cluster.size() {
            let target = cluster.peer_port(place);
            let residents = cluster.residents();
            let who = move |dialer, door| resident(dialer, door, &residents);
            let port = network.listen(place, target, seed, who);
            cluster.advertise(place, port);
        }
        network
    }

    fn new(size: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("network")
            .enable_all()
            .build();
        Self {
            paths: watch::Sender::new(Paths::default()),
            size,
            broken: Arc::default(),
            runtime: runtime.expect("a thread"),
        }
    }

    /// Takes connections for a member in its place; the port.
    fn listen(
        &self,
        place: usize,
        target: u16,
        seed: u64,
        who: impl Fn(SocketAddr, SocketAddr) -> Option<usize> + Send + Sync + 'static,
    ) -> u16 {
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let door = listener.local_addr().expect("it is bound");
        let paths = self.paths.subscribe();
        let broken = Arc::clone(&self.broken);
        let who = Arc::new(who);
        self.runtime.spawn(async move {
            let mut dice = Dice::new(seed.wrapping_add(place as u64));
            while let Ok((socket, dialer)) = listener.accept().await {
                let (who, dice) = (Arc::clone(&who), Dice::new(dice.throw()));
                let (paths, broken) = (paths.clone(), Arc::clone(&broken));
                tokio::spawn(async move {
                    // Reading the kernel's tables takes its time, in which nothing else may wait.
                    let from = spawn_blocking(move || find(|| who(dialer, door))).await;
                    if let Ok(Some(from)) = from {
                        let way = Way { from, to: place };
                        carry(socket, target, way, paths, dice, broken).await;
                    }
                });
            }
        });
        door.port()
    }

    /// How bytes get from one member to another from now on.
    pub fn set(&self, from: usize, to: usize, path: Path) {
        self.paths.send_modify(|paths| {
            paths.special.insert((from, to), path);
        });
    }

    fn set_where(&self, path: Path, concerns: impl Fn(Way) -> bool) {
        for from in 0..self.size {
            for to in (0..self.size).filter(|&to| to != from) {
                if concerns(Way { from, to }) {
                    self.set(from, to, path);
                }
            }
        }
    }

    /// Cuts these members off from all others, not from each other.
    pub fn isolate(&self, places: &[usize]) {
        self.set_where(CUT, |way| {
            places.contains(&way.from) != places.contains(&way.to)
        });
    }

    /// These two do not reach each other; both reach all others.
    pub fn sever(&self, one: usize, other: usize) {
        self.set_where(CUT, |way| {
            [(one, other), (other, one)].contains(&(way.from, way.to))
        });
    }

    /// What this member says reaches nobody; it hears all.
    pub fn silence(&self, place: usize) {
        self.set_where(CUT, |way| way.from == place);
    }

    /// What others say does not reach this member; they hear it.
    pub fn deafen(&self, place: usize) {
        self.set_where(CUT, |way| way.to == place);
    }

    /// All paths become like this.
    pub fn set_all(&self, path: Path) {
        self.set_where(path, |_| true);
    }

    /// All paths are as they should be. Connections stay, with everything that waits in them.
    pub fn heal(&self) {
        self.paths.send_modify(|paths| paths.special.clear());
    }

    /// Breaks every connection, with what is under way.
    pub fn break_all(&self) {
        self.paths.send_modify(|paths| paths.breaks += 1);
    }

    /// Connections broken so far.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }
}

const CUT: Path = Path {
    is_cut: true,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    broken_one_in: 0,
};

/// Looks again for a while. Who has hung up already has no socket any more and is not found.
fn find(who: impl Fn() -> Option<usize>) -> Option<usize> {
    (0..LOOKS_MAX).find_map(|_| {
        who().or_else(|| {
            thread::sleep(LOOK_AGAIN);
            None
        })
    })
}

/// Which member's process owns the dialer's end of a connection through this door.
fn resident(dialer: SocketAddr, door: SocketAddr, residents: &Residents) -> Option<usize> {
    let link = format!("socket:[{}]", inode(dialer, door)?);
    let residents = residents.lock().expect("nobody panics with it").clone();
    let owns = |pid: u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.find(|found| found.as_os_str() == link.as_str())
    };
    let found = residents.iter().find(|(_, pid)| owns(**pid).is_some());
    found.map(|(place, _)| *place)
}

/// Number of the dialer's socket, from the kernel's table of IPv4 connections. Both ends count: connections to two
/// places may leave from the same port.
fn inode(dialer: SocketAddr, door: SocketAddr) -> Option<u64> {
    let wanted = [in_table(dialer)?, in_table(door)?];
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let line = table.lines().find(|line| {
        let ends = line.split_whitespace().skip(1).take(2);
        ends.eq(wanted.iter().map(String::as_str))
    })?;
    line.split_whitespace().nth(9)?.parse().ok()
}

/// An address as the kernel's table has it.
fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let octets = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{octets:08X}:{:04X}", address.port()))
}

/// One connection, from the first byte to the last.
async fn carry(
    mut near: TcpStream,
    target: u16,
    way: Way,
    mut paths: watch::Receiver<Paths>,
    mut dice: Dice,
    broken: Arc<AtomicU64>,
) {
    let breaks = paths.borrow().breaks;
    let both_open = |paths: &Paths| !paths.of(way).is_cut && !paths.of(way.back()).is_cut;
    let Ok(_) = paths.wait_for(both_open).await else {
        return;
    };
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (there, back) = (paths.clone(), paths.clone());
    let others = Dice::new(dice.throw());
    let ended = {
        let (near_reader, near_writer) = near.split();
        let (far_reader, far_writer) = far.split();
        tokio::select! {
            ended = async {
                tokio::try_join!(
                    pump(near_reader, far_writer, way, there, dice),
                    pump(far_reader, near_writer, way.back(), back, others),
                )
            } => ended.map(|_| ()),
            _ = paths.wait_for(|paths| paths.breaks != breaks) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    };
    if ended.is_err() {
        broken.fetch_add(1, Ordering::Relaxed);
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

/// One direction of a connection.
async fn pump(
    mut source: impl AsyncRead + Unpin,
    mut sink: impl AsyncWrite + Unpin,
    way: Way,
    mut paths: watch::Receiver<Paths>,
    mut dice: Dice,
) -> io::Result<()> {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let now = paths.clone();
    let take = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut due = Instant::now();
        loop {
            let length = source.read(&mut buffer).await?;
            let path = now.borrow().of(way);
            if path.broken_one_in != 0 && dice.once_in(path.broken_one_in) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let jitter = path.jitter.mul_f64(dice.below(1000) as f64 / 1000.0);
            due = due.max(Instant::now() + path.delay + jitter);
            let chunk = Bytes::copy_from_slice(&buffer[..length]);
            // The end of the stream travels as an empty chunk, no faster than bytes do.
            if sender.send((due, chunk)).await.is_err() || length == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let give = async move {
        while let Some((due, chunk)) = under_way.recv().await {
            sleep_until(due).await;
            let open = paths.wait_for(|paths| !paths.of(way).is_cut).await;
            open.map_err(|_| io::ErrorKind::ConnectionAborted)?;
            match chunk.is_empty() {
                true => sink.shutdown().await?,
                false => sink.write_all(&chunk).await?,
            }
        }
        io::Result::Ok(())
    };
    tokio::try_join!(take, give).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Long enough for a byte on this machine, and short enough for a test that expects none.
    const SILENCE: Duration = Duration::from_millis(50);
    const LIMIT: Duration = Duration::from_secs(60);

    /// Member 0 dials member 1: both ends of the connection.
    fn connection(network: &Network) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = listener.local_addr().expect("bound").port();
        let port = network.listen(1, target, 7, |_, _| Some(0));
        let near = TcpStream::connect(("127.0.0.1", port)).expect("the forwarder listens");
        let (far, _) = listener.accept().expect("it is passed on");
        for end in [&near, &far] {
            end.set_read_timeout(Some(LIMIT)).expect("a timeout");
        }
        (near, far)
    }

    fn passes(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").expect("the connection lives");
        let mut byte = [0];
        to.read_exact(&mut byte).expect("it arrives");
        assert_eq!(&byte, b"x");
    }

    fn is_silent(end: &mut TcpStream) {
        end.set_read_timeout(Some(SILENCE)).expect("a timeout");
        let error = end.read(&mut [0]).expect_err("nothing arrives");
        assert!(matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
        end.set_read_timeout(Some(LIMIT)).expect("a timeout");
    }

    #[test]
    fn a_cut_holds_one_direction_until_it_is_healed() {
        let network = Network::new(2);
        let (mut near, mut far) = connection(&network);
        passes(&mut near, &mut far);
        network.silence(0);
        near.write_all(b"late").expect("the sender knows nothing");
        is_silent(&mut far);
        passes(&mut far, &mut near);
        network.heal();
        let mut late = [0; 4];
        far.read_exact(&mut late).expect("it arrives after all");
        assert_eq!(&late, b"late");
    }

    #[test]
    fn a_broken_connection_is_reset_at_both_ends() {
        let network = Network::new(2);
        let (mut near, mut far) = connection(&network);
        passes(&mut near, &mut far);
        network.break_all();
        for end in [&mut near, &mut far] {
            let error = end.read(&mut [0]).expect_err("no orderly end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert_eq!(network.broken(), 1);
    }

    #[test]
    fn one_chunk_in_one_breaks() {
        let network = Network::new(2);
        let (mut near, mut far) = connection(&network);
        let path = Path {
            broken_one_in: 1,
            ..Path::default()
        };
        network.set(1, 0, path);
        passes(&mut near, &mut far);
        far.write_all(b"lost").expect("the sender knows nothing");
        let error = near.read(&mut [0]).expect_err("it never arrives");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn the_end_of_a_stream_is_passed_on() {
        let network = Network::new(2);
        let (near, mut far) = connection(&network);
        drop(near);
        assert_eq!(far.read(&mut [0]).expect("an orderly end"), 0);
    }

    #[test]
    fn the_owner_of_a_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let door = listener.local_addr().expect("bound");
        let near = TcpStream::connect(door).expect("it listens");
        let near = near.local_addr().expect("connected");
        let own = Residents::new(Mutex::new([(4, std::process::id())].into()));
        assert_eq!(resident(near, door, &own), Some(4));
        // The same port may lead elsewhere, too, and be another's there.
        let elsewhere = SocketAddr::new(door.ip(), 1);
        assert_eq!(resident(near, elsewhere, &own), None);
        let nobody = Residents::default();
        assert_eq!(resident(near, door, &nobody), None);
    }
}
