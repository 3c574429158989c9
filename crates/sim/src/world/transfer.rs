//! The state of a member on its way to a follower that fell behind.
//!
//! As in the server: the sender makes etcd's database file of the state that it held when consensus asked for it, and sends it
//! piece by piece; the receiver writes the pieces to a file beside its state, reads that when it is whole, makes durable what
//! it says, and tells its machines. Between these steps everything else goes on, and everything may fail.
//!
//! Every other transfer carries the files of the state as they are, as between members of ours; the receiver writes them to
//! files as they come. Some of these arrive with a wrong byte.
//!
//! The connection carries bytes in their order or breaks. A cut delays them, a reset ends it for both sides, so does a process
//! that ends, and after a power loss nobody hears anything: then silence ends it. One transfer comes in at a time; until it has arrived it
//! gives way to one of its own term or of a later one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvorum_member::apply::{Apply, Digest};
use kvorum_member::backend::{Backend, BackendError, Encoding, Sizing};
use kvorum_member::checkpoint::ReceiveError;
use kvorum_member::checkpoint::stream::{Receiving, SendStep, Sending, StreamError};
use kvorum_member::consensus::SnapshotNumber;
use kvorum_proto::ids::{LogIndex, MemberId, Moment, Term};
use kvorum_proto::raftpb::Message;
use kvorum_storage::bolt::Layout;
use kvorum_storage::checkpoint::RECEIVING_NAME;
use kvorum_storage::vfs::{FILE_MODE, OpenMode, Vfs as _, VfsFile as _};

use super::node::Place;
use super::process::Process;
use super::{Event, STATE_DIRECTORY, Weather, World};
use crate::disk::{Disk, Fault};

/// Pairs that are sized, and bytes that are encoded, in one step.
const STEP: usize = 1 << 16;
/// After so long the sender's kernel tries again to get through.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// Longest silence within a transfer, after which the sender or the receiver gives it up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// After so long a sender whose peer lost its power, with nothing left to send, finds out that nobody is there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Most pieces of one transfer: a large file travels in larger ones, or a slow link would never be done with it.
const PIECES_MAX: usize = 64;
/// One connection in so many breaks in the midst of a transfer.
const BREAKS_ONE_IN: u64 = 10;

/// One transfer of files in so many has a wrong byte in it when it arrives.
const SPOILED_ONE_IN: u64 = 8;

/// One transfer in so many meets a fault that is meant for it.
const STRUCK_ONE_IN: u64 = 3;

/// A transfer by its number.
pub(super) type TransferId = u64;

/// One transfer, from the sender's side.
pub(super) struct Transfer {
    from: Place,
    to: Place,
    /// The sender's life.
    sender: u64,
    /// The life of the receiver that the connection leads to.
    receiver: Option<u64>,
    /// What the sender calls it.
    number: SnapshotNumber,
    message: Box<Message>,
    form: Form,
    file: File,
    /// A byte of it changes on the way.
    is_spoiled: bool,
    /// Bytes that the receiver has written, and when that was last.
    sent: usize,
    sent_at: Moment,
    /// What the sender's state came to.
    digest: Option<Digest>,
    /// The connection breaks when so much has been sent, in a thousand.
    breaks_at: Option<u64>,
}

/// What the state is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Database,
    Files,
}

/// The database file is made when its first piece leaves, of the state as it was.
enum File {
    Sized { state: Backend, layout: Layout },
    Made(Vec<u8>),
}

/// What a receiver is about.
pub(super) enum Incoming {
    /// Pieces come in.
    Coming {
        transfer: TransferId,
        term: Term,
        /// When it last heard of it.
        heard: Moment,
        /// What writes them down, where files come in.
        files: Option<Box<Receiving<Disk>>>,
    },
    /// All is there and is read and made durable.
    Arrived(Arrived),
    /// The machines have it.
    Installing,
}

/// How far a receiver is with what has arrived.
pub(super) enum Arrived {
    /// A database file that nobody has read.
    Database,
    /// Files of which nobody has made a state.
    Files(Box<Receiving<Disk>>),
    /// A state that is not durable.
    Read(Box<Apply>),
}

impl World {
    /// A snapshot leaves for a peer, and whoever sent it will hear what became of it.
    pub(super) fn send_snapshot(
        &mut self,
        from: Place,
        number: SnapshotNumber,
        message: Box<Message>,
        state: Backend,
    ) {
        let Some(to) = self.place_of(MemberId(message.to())) else {
            return self.violated("messages are for members", format!("{message:?}"));
        };
        let Some(process) = &self.nodes[from].process else {
            return;
        };
        let (sender, index) = (process.boot, state.metadata().index());
        let apply = process.core.apply();
        let digest = (apply.applied().0 == index).then(|| apply.digest());
        self.transfers_begun += 1;
        let id = self.transfers_begun;
        let form = match id % 2 {
            0 => Form::Database,
            _ => Form::Files,
        };
        let is_spoiled = form == Form::Files
            && !self.is_resting
            && self.mix.weather != Weather::Quiet
            && self.network.chance(1, SPOILED_ONE_IN);
        let made = match form {
            Form::Database => size(&state).map(|layout| File::Sized { state, layout }),
            Form::Files => stream(&state).map(File::Made),
        };
        let mut file = match made {
            Ok(file) => file,
            Err(error) => return self.violated("a snapshot can be made", error.to_string()),
        };
        if let (true, File::Made(bytes)) = (is_spoiled, &mut file) {
            let at = self.network.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.network.below(8);
        }
        let bytes = file.length();
        self.count("snapshots sent");
        if form == Form::Files {
            self.count("snapshots sent as files");
        }
        let beside = |it: &Transfer| (it.sender, it.to) == (sender, to);
        if self.transfers.values().any(beside) {
            self.count("snapshots sent beside another one to the same member");
        }
        self.log.line(self.now, || {
            format!("member {from} sends snapshot {id} at {index} to member {to}, {bytes} bytes")
        });
        let breaks = !self.is_resting && self.network.chance(1, BREAKS_ONE_IN);
        let transfer = Transfer {
            from,
            to,
            sender,
            receiver: None,
            number,
            message,
            form,
            file,
            is_spoiled,
            sent: 0,
            sent_at: self.now,
            digest,
            breaks_at: breaks.then(|| self.network.below(1_000)),
        };
        self.transfers.insert(id, transfer);
        let delay = self.travel(from, to) + Duration::from_micros(self.network.between(0, 100_000));
        self.plan(delay, Event::Piece { transfer: id });
    }

    /// Who takes part in a transfer and stands still meanwhile.
    pub(super) fn receiver_of(&self, id: TransferId) -> Option<Place> {
        self.transfers.get(&id).map(|transfer| transfer.to)
    }

    /// The next piece is on its way.
    pub(super) fn piece(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else {
            return;
        };
        let (from, to, receiver) = (transfer.from, transfer.to, transfer.receiver);
        let (sent, sent_at) = (transfer.sent as u64, transfer.sent_at);
        let breaks_at = transfer.breaks_at;
        if self.place_of_boot(transfer.sender).is_none() {
            // Its power is gone, and the receiver waits.
            self.transfers.remove(&id);
            return;
        }
        let paused_until = self.nodes[from].paused_until;
        if paused_until > self.now {
            return self.plan_at(paused_until, Event::Piece { transfer: id });
        }
        let there = self.nodes[to].process.as_ref().map(|process| process.boot);
        let waits_for_power = receiver.is_some() && there.is_none() && !self.nodes[to].is_gone;
        let is_cut = self.is_cut(from, to) || self.is_cut(to, from);
        if waits_for_power || (is_cut && receiver.is_some()) {
            if self.now.since(sent_at) < SILENCE_MAX {
                return self.plan(RETRANSMISSION, Event::Piece { transfer: id });
            }
            self.struck("snapshots given up in silence");
            return self.end_transfer(id, false);
        }
        let leads_nowhere =
            is_cut || there.is_none() || receiver.is_some_and(|it| there != Some(it));
        let length = self.transfers[&id].file.length();
        let breaks = breaks_at.is_some_and(|at| sent * 1_000 >= at * length);
        if leads_nowhere || breaks {
            self.struck("snapshots lost");
            return self.break_transfer(id);
        }
        match receiver {
            None if !self.claim(id, there) => self.end_transfer(id, false),
            _ => self.write_piece(id),
        }
    }

    /// The receiver takes a transfer in, if its place is free or the one that has it gives way.
    fn claim(&mut self, id: TransferId, boot: Option<u64>) -> bool {
        let transfer = self.transfers.get_mut(&id).expect("the caller has it");
        transfer.receiver = boot;
        let (from, to) = (transfer.from, transfer.to);
        let term = Term(transfer.message.term());
        let sender = self.nodes[from].id;
        let Some(process) = &self.nodes[to].process else {
            return false;
        };
        if process.view.cluster.roster.is_removed(sender) {
            return false;
        }
        let before = match &process.incoming {
            None => None,
            Some(Incoming::Coming {
                transfer, term: of, ..
            }) if *of <= term => Some(*transfer),
            Some(_) => {
                self.count("snapshots refused while another came in");
                return false;
            }
        };
        self.drop_incoming(to);
        let heard = self.now;
        let Some(process) = &mut self.nodes[to].process else {
            return false;
        };
        process.incoming = Some(Incoming::Coming {
            transfer: id,
            term,
            heard,
            files: None,
        });
        let boot = process.boot;
        self.plan(SILENCE_MAX, Event::Silence { boot, transfer: id });
        if let Some(before) = before {
            self.log.line(self.now, || {
                format!("member {to}: snapshot {before} gives way to {id}")
            });
            self.struck("snapshots that give way to another");
            self.end_transfer(before, false);
        }
        self.disturb_transfer(from, to);
        true
    }

    /// A fault of its own for a part of the transfers, which would be over before one comes by chance.
    fn disturb_transfer(&mut self, from: Place, to: Place) {
        let spared = self.is_resting || self.mix.weather == Weather::Quiet;
        if spared || !self.weather.chance(1, STRUCK_ONE_IN) {
            return;
        }
        let faults = [Fault::CrashBefore, Fault::CrashAfter, Fault::Fail];
        let (fault, call) = (*self.weather.pick(&faults), self.weather.below(60));
        let delay = Duration::from_micros(self.weather.between(100, 20_000));
        let place = if self.weather.chance(1, 3) { from } else { to };
        if !self.strikes(place) {
            return;
        }
        match self.weather.below(4) {
            3 => {
                let until = self.now + Duration::from_millis(self.weather.between(2_000, 9_000));
                self.tell_of_fault(to, "is cut off in the midst of a transfer", "partitions");
                self.cut(from, to, until);
                self.cut(to, from, until);
            }
            0 => self.plan(delay, Event::Kill { place }),
            1 => self.plan(delay, Event::LosePower { place }),
            _ => self.plan_fault(place, self.nodes[place].disk.calls() + call, fault),
        }
    }

    fn write_piece(&mut self, id: TransferId) {
        let bytes_max = self.mix.piece_bytes as usize;
        let transfer = self.transfers.get_mut(&id).expect("the caller has it");
        let (from, to, offset) = (transfer.from, transfer.to, transfer.sent);
        let (form, named) = (transfer.form, transfer.named());
        let file = match transfer.make() {
            Ok(file) => file,
            Err(error) => return self.violated("a snapshot can be made", error.to_string()),
        };
        let bytes_max = bytes_max.max(file.len().div_ceil(PIECES_MAX));
        let end = file.len().min(offset + bytes_max);
        let is_whole = end == file.len();
        let node = &mut self.nodes[to];
        let written = match form {
            Form::Database => append(&node.disk, offset as u64, &file[offset..end])
                .map_err(|error| Unwritten::Refused(error.to_string())),
            Form::Files => {
                let process = node.process.as_mut();
                let begins = offset == 0;
                process.map_or(Ok(()), |it| {
                    it.write_files(named, begins, &file[offset..end])
                })
            }
        };
        (transfer.sent, transfer.sent_at) = (end, self.now);
        if let Some(process) = &mut self.nodes[to].process
            && let Some(Incoming::Coming { heard, .. }) = &mut process.incoming
        {
            *heard = self.now;
        }
        match written {
            Ok(()) if is_whole => {
                self.log.line(self.now, || {
                    format!("member {to}: snapshot {id} has arrived")
                });
                if let Some(process) = &mut self.nodes[to].process {
                    process.has_arrived();
                }
                self.plan_receiver(id);
            }
            Ok(()) => {
                let (low, high) = self.mix.piece_micros;
                let pause = Duration::from_micros(self.network.between(low, high));
                let delay = self.travel(from, to) + pause;
                self.plan(delay, Event::Piece { transfer: id });
            }
            Err(_) if self.nodes[to].disk.is_crashed() => {
                self.lose_power(to);
                self.plan(RETRANSMISSION, Event::Piece { transfer: id });
            }
            Err(Unwritten::NotNeeded) => self.came_too_late(id),
            Err(Unwritten::Failed(error)) => self.not_received(id, &error, true),
            Err(Unwritten::Refused(why)) => self.refuse(id, &why),
        }
    }

    /// What came is as old as what the receiver has.
    fn came_too_late(&mut self, id: TransferId) {
        self.count("snapshots that came too late");
        self.drop_incoming(self.transfers[&id].to);
        self.end_transfer(id, true);
    }

    /// The receiver goes on with what it has.
    fn plan_receiver(&mut self, transfer: TransferId) {
        let (low, high) = self.mix.job_micros;
        let delay = Duration::from_micros(self.schedule.between(low, high));
        self.plan(delay, Event::TakeIn { transfer });
    }

    /// The receiver reads the file, and in a later step makes durable what it says.
    pub(super) fn take_in(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else {
            return;
        };
        let (to, digest) = (transfer.to, transfer.digest);
        let named = transfer.named();
        let node = &mut self.nodes[to];
        let Some(process) = node.process.as_mut() else {
            return;
        };
        let reads_failed = node.disk.counts().failed_reads;
        let taken = match process.incoming.take() {
            Some(Incoming::Arrived(Arrived::Read(state))) => return self.receive(id, state),
            Some(Incoming::Arrived(Arrived::Files(files))) => process.finish(*files).map(Some),
            other => {
                process.incoming = other;
                process.take_in(&node.disk, named)
            }
        };
        match taken {
            Ok(None) => self.came_too_late(id),
            Ok(Some(_)) if self.transfers[&id].is_spoiled => {
                let story = format!("member {to} took snapshot {id}");
                self.violated("a snapshot with a wrong byte is refused", story);
            }
            Ok(Some(state)) if digest.is_some_and(|sent| sent != state.digest()) => {
                let story = format!("member {to} read another state at {named:?}");
                self.violated("a snapshot is what its sender held", story);
            }
            Ok(Some(state)) => {
                process.incoming = Some(Incoming::Arrived(Arrived::Read(Box::new(state))));
                self.plan_receiver(id);
            }
            Err(error) => {
                let is_sound = node.disk.counts().failed_reads == reads_failed;
                self.not_received(id, &error, is_sound);
            }
        }
    }

    fn receive(&mut self, id: TransferId, mut state: Box<Apply>) {
        let transfer = &self.transfers[&id];
        let (to, message) = (transfer.to, transfer.message.clone());
        let Some(process) = &mut self.nodes[to].process else {
            return;
        };
        match process.receive(&mut state) {
            Ok(is_new) => {
                process.incoming = is_new.then_some(Incoming::Installing);
                if is_new {
                    process.hand_over(message, state);
                    self.drill_install(to);
                } else {
                    self.count("snapshots that came too late");
                }
                self.clear_away(to);
                self.end_transfer(id, true);
            }
            Err(error) => self.not_received(id, &error, true),
        }
    }

    /// A whole file was not taken: the disk must be at fault.
    fn not_received(&mut self, id: TransferId, error: &ReceiveError, is_sound: bool) {
        let to = self.transfers[&id].to;
        match error {
            _ if self.nodes[to].disk.is_crashed() => self.lose_power(to),
            ReceiveError::State(_) => self.stopped_by_disk(to),
            error if self.transfers[&id].is_spoiled => {
                self.struck("snapshots with a wrong byte");
                self.refuse(id, &error.to_string());
            }
            ReceiveError::Stream(StreamError::Write(_)) => self.refuse(id, &error.to_string()),
            error if is_sound => {
                let story = format!("member {to}: {error}");
                self.violated("a snapshot that arrived can be read", story);
            }
            error => self.refuse(id, &error.to_string()),
        }
    }

    /// The receiver says no and forgets what it has.
    fn refuse(&mut self, id: TransferId, why: &str) {
        let to = self.transfers[&id].to;
        self.log.line(self.now, || {
            format!("member {to} refuses snapshot {id}: {why}")
        });
        self.note_disk(to);
        self.count("snapshots that were refused");
        self.end_transfer(id, false);
        self.drop_incoming(to);
    }

    fn stopped_by_disk(&mut self, place: Place) {
        self.note_disk(place);
        self.count("processes stopped by a failed job");
        self.kill(place);
    }

    /// The receiver gives up what comes in.
    fn drop_incoming(&mut self, place: Place) {
        let process = self.nodes[place].process.as_mut();
        if let Some(Incoming::Coming {
            files: Some(files), ..
        }) = process.and_then(|process| process.incoming.take())
            && files.give_up().is_err()
        {
            if self.nodes[place].disk.is_crashed() {
                self.lose_power(place);
            } else {
                self.stopped_by_disk(place);
            }
            return;
        }
        self.clear_away(place);
    }

    /// Removes what was received.
    fn clear_away(&mut self, place: Place) {
        // As in the server: it may fail, and nothing depends on it.
        let _ = self.nodes[place].disk.remove(&receiving());
        if self.nodes[place].disk.is_crashed() {
            self.lose_power(place);
        }
    }

    /// The sender hears how it ended.
    fn end_transfer(&mut self, id: TransferId, received: bool) {
        let Some(transfer) = self.transfers.remove(&id) else {
            return;
        };
        let (from, to) = (transfer.to, transfer.from);
        let delay = self.travel(from, to) + self.cut_for(from, to);
        let (boot, number) = (transfer.sender, transfer.number);
        self.plan(
            delay,
            Event::SnapshotSent {
                boot,
                number,
                received,
            },
        );
    }

    /// The connection breaks: both sides hear of it, if they are there.
    fn break_transfer(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else {
            return;
        };
        let (from, to, receiver) = (transfer.from, transfer.to, transfer.receiver);
        self.end_transfer(id, false);
        if let Some(boot) = receiver {
            let delay = self.travel(from, to) + self.cut_for(from, to);
            self.plan(delay, Event::TransferBroken { boot, transfer: id });
        }
    }

    /// The receiver hears that the connection broke.
    pub(super) fn transfer_broken(&mut self, boot: u64, id: TransferId) {
        let Some(place) = self.place_of_boot(boot) else {
            return;
        };
        if let Some(process) = &self.nodes[place].process
            && matches!(process.incoming, Some(Incoming::Coming { transfer, .. }) if transfer == id)
        {
            self.drop_incoming(place);
        }
    }

    /// The receiver looks whether anything has come.
    pub(super) fn silence(&mut self, boot: u64, id: TransferId) {
        let process = self.process_of(boot);
        let Some(Incoming::Coming {
            transfer, heard, ..
        }) = process.and_then(|process| process.incoming.as_ref())
        else {
            return;
        };
        if *transfer != id {
            return;
        }
        let until = *heard + SILENCE_MAX;
        if until > self.now {
            return self.plan_at(until, Event::Silence { boot, transfer: id });
        }
        self.struck("snapshots given up in silence");
        self.transfer_broken(boot, id);
        self.end_transfer(id, false);
    }

    /// All connections of a process break. What has arrived goes its way.
    pub(super) fn break_transfers(&mut self, of: Place) {
        let mut broken = self.transfers_of(of);
        broken.retain(|id| !self.has_arrived(*id));
        for id in broken {
            self.struck("snapshots lost");
            self.break_transfer(id);
        }
    }

    /// A member has died: who has sent everything to it and waits for its answer finds out, late when nobody says so.
    pub(super) fn forget_transfers(&mut self, of: Place, is_told: bool) {
        let delay = if is_told { Duration::ZERO } else { KEEPALIVE };
        for id in self.transfers_of(of) {
            let transfer = &self.transfers[&id];
            if transfer.to == of && self.has_arrived(id) {
                let (boot, number) = (transfer.sender, transfer.number);
                self.transfers.remove(&id);
                let received = false;
                self.plan(
                    delay,
                    Event::SnapshotSent {
                        boot,
                        number,
                        received,
                    },
                );
            }
        }
    }

    /// Whether a member sends a snapshot at this moment.
    pub(super) fn sends_a_snapshot(&self, boot: u64) -> bool {
        let mut transfers = self.transfers.values();
        transfers.any(|transfer| transfer.sender == boot && transfer.sent > 0)
    }

    fn transfers_of(&self, place: Place) -> Vec<TransferId> {
        let of = |transfer: &Transfer| transfer.from == place || transfer.to == place;
        let transfers = self.transfers.iter();
        transfers
            .filter(|(_, transfer)| of(transfer))
            .map(|(id, _)| *id)
            .collect()
    }

    fn has_arrived(&self, id: TransferId) -> bool {
        let transfer = &self.transfers[&id];
        matches!(&transfer.file, File::Made(bytes) if bytes.len() == transfer.sent)
    }

    /// How long nothing gets through.
    fn cut_for(&self, from: Place, to: Place) -> Duration {
        let until = self.cuts.get(&(from, to)).copied().unwrap_or_default();
        until.since(self.now)
    }
}

/// Why a piece was not written.
pub(super) enum Unwritten {
    /// The receiver has something as new.
    NotNeeded,
    /// The receiver found it wrong, or its disk failed.
    Failed(ReceiveError),
    /// The disk did not take it, and nothing depends on that.
    Refused(String),
}

impl File {
    fn length(&self) -> u64 {
        match self {
            File::Sized { layout, .. } => layout.file_bytes(),
            File::Made(bytes) => bytes.len() as u64,
        }
    }
}

impl Process {
    /// Writes down the next bytes of files that come in.
    fn write_files(
        &mut self,
        named: LogIndex,
        begins: bool,
        bytes: &[u8],
    ) -> Result<(), Unwritten> {
        let begun = if begins {
            Some(self.begin_files(named).map_err(Unwritten::Failed)?)
        } else {
            None
        };
        let Some(Incoming::Coming { files, .. }) = &mut self.incoming else {
            return Ok(());
        };
        if let Some(begun) = begun {
            *files = Some(Box::new(begun.ok_or(Unwritten::NotNeeded)?));
        }
        let files = files.as_mut();
        files.map_or(Ok(()), |it| it.input(bytes).map_err(Unwritten::Failed))
    }

    /// Everything has come in.
    fn has_arrived(&mut self) {
        let files = match self.incoming.take() {
            Some(Incoming::Coming { files, .. }) => files,
            _ => None,
        };
        let arrived = files.map_or(Arrived::Database, Arrived::Files);
        self.incoming = Some(Incoming::Arrived(arrived));
    }
}

impl Transfer {
    /// The entry at which the state stands.
    fn named(&self) -> LogIndex {
        let metadata = self.message.snapshot.as_ref();
        let metadata = metadata.and_then(|snapshot| snapshot.metadata.clone());
        LogIndex(metadata.unwrap_or_default().index())
    }

    /// The file, made when it is needed first.
    fn make(&mut self) -> Result<&[u8], BackendError> {
        if let File::Sized { state, layout } = &self.file {
            self.file = File::Made(encode(state, *layout)?);
        }
        match &self.file {
            File::Made(bytes) => Ok(bytes),
            File::Sized { .. } => Ok(&[]),
        }
    }
}

fn stream(state: &Backend) -> Result<Vec<u8>, BackendError> {
    let (mut bytes, mut sending) = (Vec::new(), Sending::new(state));
    loop {
        match sending.step()? {
            SendStep::Read(_) => {}
            SendStep::Bytes(more) => bytes.extend_from_slice(&more),
            SendStep::End => return Ok(bytes),
        }
    }
}

fn size(state: &Backend) -> Result<Layout, BackendError> {
    let mut sizing = Sizing::new(state);
    while sizing.step(STEP)? {}
    Ok(sizing.finish()?)
}

fn encode(state: &Backend, layout: Layout) -> Result<Vec<u8>, BackendError> {
    let mut bytes = Vec::new();
    let mut encoding = Encoding::new(state, layout)?;
    while let Some(blob) = encoding.blob(STEP)? {
        bytes.extend_from_slice(&blob);
    }
    Ok(bytes)
}

/// The file that a snapshot is received into.
pub(super) fn receiving() -> PathBuf {
    Path::new(STATE_DIRECTORY).join(RECEIVING_NAME)
}

fn append(disk: &Disk, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let path = receiving();
    let mode = match offset {
        0 => {
            if disk.exists(&path)? {
                disk.remove(&path)?;
            }
            OpenMode::CreateNew { mode: FILE_MODE }
        }
        _ => OpenMode::ReadWrite,
    };
    disk.open(&path, mode)?.write_at(offset, bytes)
}
