//! Consensus against a disk and an apply that the test holds in its hands.

use std::collections::BTreeMap;

use kvorum_proto::walpb;
use prost::Message as _;

use super::*;

/// A member whose disk keeps only what [`Bench::sync`] was called for.
struct Bench {
    consensus: Consensus,
    config: Config,
    /// Appends that are not durable yet.
    unsynced: Vec<Append>,
    durable: BTreeMap<u64, raftpb::Entry>,
    durable_state: raftpb::HardState,
    applied: Vec<raftpb::Entry>,
    /// Whether commits are applied as they come.
    applies: bool,
    /// Everything else that came out.
    outputs: Vec<Output>,
}

fn config(member: u64) -> Config {
    Config::new(MemberId(member), 42, 7)
}

fn initial(members: &[u64]) -> Vec<InitialMember> {
    let member = |&id| InitialMember {
        id: MemberId(id),
        context: Bytes::from_static(b"{}"),
    };
    members.iter().map(member).collect()
}

impl Bench {
    fn new(config: Config, consensus: Consensus) -> Self {
        Bench {
            consensus,
            config,
            unsynced: Vec::new(),
            durable: BTreeMap::new(),
            durable_state: raftpb::HardState::default(),
            applied: Vec::new(),
            applies: true,
            outputs: Vec::new(),
        }
    }

    fn bootstrap(config: Config, members: &[u64]) -> Self {
        let consensus =
            Consensus::bootstrap(config.clone(), &initial(members)).expect("settings fit");
        let mut bench = Bench::new(config, consensus);
        bench.run();
        bench
    }

    /// A lone member that leads.
    fn lone() -> Self {
        let mut bench = Bench::bootstrap(config(1), &[1]);
        bench.settle();
        assert_eq!(bench.consensus.status().leadership.role, Role::Leader);
        bench.outputs.clear();
        bench
    }

    /// The process dies; what was not synced is gone.
    fn restart(&mut self) {
        let entries = self.durable.values().cloned().collect();
        let consensus = Consensus::restore(
            self.config.clone(),
            &walpb::Snapshot::default(),
            self.durable_state,
            entries,
        );
        self.consensus = consensus.expect("the log is whole");
        self.unsynced.clear();
        self.applied.clear();
        self.outputs.clear();
        self.run();
    }

    fn input(&mut self, input: Input) {
        self.consensus.input(input);
        self.run();
    }

    fn propose(&mut self, id: u64, data: &'static [u8]) {
        let data = Bytes::from_static(data);
        self.input(Input::Propose(vec![Proposal {
            id: RequestId(id),
            data,
        }]));
    }

    /// Polls until nothing more comes out, applying commits if told so.
    fn run(&mut self) {
        loop {
            self.consensus.poll();
            self.consensus.check_invariants();
            let Some(output) = self.consensus.take_output() else {
                return;
            };
            match output {
                Output::Append(append) => self.unsynced.push(append),
                Output::Commit(entries) if self.applies => self.apply(entries),
                other => self.outputs.push(other),
            }
        }
    }

    fn apply(&mut self, entries: Vec<raftpb::Entry>) {
        let last = entries
            .last()
            .map(raftpb::Entry::index)
            .expect("batches are never empty");
        for entry in &entries {
            if entry.r#type() == raftpb::EntryType::EntryConfChange {
                let change = raftpb::ConfChange::decode(entry.data()).expect("checked before");
                let index = LogIndex(entry.index());
                self.consensus.input(Input::ConfChanged { index, change });
            }
        }
        self.applied.extend(entries);
        self.consensus.input(Input::Applied(LogIndex(last)));
    }

    /// Makes everything durable that was appended so far.
    fn sync(&mut self) {
        let Some(last) = self.unsynced.last().map(|append| append.ticket) else {
            return;
        };
        for append in self.unsynced.drain(..) {
            for entry in append.entries {
                self.durable.split_off(&entry.index());
                self.durable.insert(entry.index(), entry);
            }
            self.durable_state = append.hard_state.unwrap_or(self.durable_state);
        }
        self.input(Input::Persisted(last));
    }

    fn settle(&mut self) {
        while !self.unsynced.is_empty() {
            self.sync();
        }
    }

    /// Index, term and data of what was applied.
    fn log(&self) -> Vec<(u64, u64, &[u8])> {
        self.applied
            .iter()
            .map(|entry| (entry.index(), entry.term(), entry.data()))
            .collect()
    }

    /// Takes the messages that were sent.
    fn sent(&mut self) -> Vec<raftpb::Message> {
        let sent = |output: &mut Output| matches!(output, Output::Send(_));
        let message = |output| match output {
            Output::Send(message) => Some(*message),
            _ => None,
        };
        self.outputs
            .extract_if(.., sent)
            .filter_map(message)
            .collect()
    }

    fn read_ready(&self) -> Vec<(Vec<u64>, u64)> {
        let ready = |output: &Output| match output {
            Output::ReadReady { tokens, index } => {
                Some((tokens.iter().map(|token| token.0).collect(), index.0))
            }
            _ => None,
        };
        self.outputs.iter().filter_map(ready).collect()
    }

    fn refused(&self) -> Vec<(u64, Refusal)> {
        let refused = |output: &Output| match output {
            Output::Refused { id, reason } => Some((id.0, *reason)),
            Output::ReadRefused { token, reason } => Some((token.0, *reason)),
            _ => None,
        };
        self.outputs.iter().filter_map(refused).collect()
    }
}

#[test]
fn a_lone_cluster_is_born_with_the_indexes_and_terms_of_etcd() {
    let mut bench = Bench::bootstrap(config(1), &[1]);
    let first = &bench.unsynced[0];
    let state = raftpb::HardState {
        term: Some(1),
        vote: Some(0),
        commit: Some(1),
    };
    assert_eq!(first.hard_state, Some(state));
    assert_eq!((first.ticket, first.must_sync), (Ticket(1), true));
    assert!(
        bench.applied.is_empty(),
        "nothing is applied that is not durable"
    );
    bench.sync();
    assert_eq!(bench.log().len(), 1);
    let entry = &bench.applied[0];
    assert_eq!(entry.r#type(), raftpb::EntryType::EntryConfChange);
    assert_eq!((entry.index(), entry.term()), (1, 1));
    bench.settle();
    assert_eq!(bench.log()[1], (2, 2, &b""[..]));
    let leadership = Leadership {
        term: Term(2),
        leader: MemberId(1),
        role: Role::Leader,
        settled: true,
        alone: true,
    };
    assert_eq!(bench.consensus.status().leadership, leadership);
    let voted = raftpb::HardState {
        term: Some(2),
        vote: Some(1),
        commit: Some(2),
    };
    assert_eq!(bench.durable_state, voted);
}

#[test]
fn initial_members_are_ordered_by_id() {
    let (entries, state) = initial_entries(&initial(&[9, 3]));
    let node = |entry: &raftpb::Entry| {
        raftpb::ConfChange::decode(entry.data())
            .expect("made here")
            .node_id()
    };
    assert_eq!(entries.iter().map(node).collect::<Vec<_>>(), [3, 9]);
    assert_eq!(state.commit, Some(2));
}

#[test]
fn a_put_is_committed_only_when_it_is_durable() {
    let mut bench = Bench::lone();
    bench.propose(1, b"put");
    assert_eq!(bench.unsynced.len(), 1);
    assert!(bench.unsynced[0].must_sync);
    assert_eq!(bench.log().len(), 2, "not applied before Persisted");
    bench.sync();
    assert_eq!(bench.log()[2], (3, 2, &b"put"[..]));
    let commit = bench
        .unsynced
        .last()
        .expect("the commit index is written too");
    assert!(
        !commit.must_sync && commit.entries.is_empty(),
        "but nobody waits for that"
    );
}

#[test]
fn a_lone_leader_keeps_leading_and_writes_nothing_while_idle() {
    let mut bench = Bench::lone();
    bench.unsynced.clear();
    for _ in 0..100 {
        bench.input(Input::Tick);
    }
    assert!(bench.consensus.is_leading());
    assert_eq!((bench.unsynced.len(), bench.outputs.len()), (0, 0));
}

#[test]
fn proposals_between_two_polls_share_an_append() {
    let mut bench = Bench::lone();
    for id in 1..=3 {
        let proposal = Proposal {
            id: RequestId(id),
            data: Bytes::from_static(b"x"),
        };
        bench.consensus.input(Input::Propose(vec![proposal]));
    }
    bench.run();
    assert_eq!(bench.unsynced.len(), 1);
    assert_eq!(bench.unsynced[0].entries.len(), 3);
}

#[test]
fn a_restart_replays_what_was_committed_and_then_leads_again() {
    let mut bench = Bench::lone();
    bench.propose(1, b"kept");
    bench.settle();
    bench.propose(2, b"lost");
    bench.restart();
    assert_eq!(bench.consensus.replay_end(), LogIndex(3));
    assert_eq!(bench.log().last(), Some(&(3, 2, &b"kept"[..])));
    bench.settle();
    assert_eq!(
        bench.log().last(),
        Some(&(4, 3, &b""[..])),
        "the lost put left no trace"
    );
    assert_eq!(bench.consensus.status().leadership.term, Term(3));
}

#[test]
fn a_durable_entry_beyond_the_commit_index_is_committed_by_the_next_term() {
    let mut bench = Bench::lone();
    bench.propose(1, b"tail");
    bench.sync();
    bench.unsynced.clear();
    bench.restart();
    assert_eq!(bench.consensus.replay_end(), LogIndex(2));
    bench.settle();
    assert_eq!(bench.log()[2..], [(3, 2, &b"tail"[..]), (4, 3, &b""[..])]);
}

#[test]
fn a_long_replay_flows_by_credit_and_reaches_its_end() {
    let mut bench = Bench::lone();
    let large = Bytes::from(vec![0; 1024 * 1024]);
    for id in 0..80 {
        let proposal = Proposal {
            id: RequestId(id),
            data: large.clone(),
        };
        bench.input(Input::Propose(vec![proposal]));
    }
    bench.settle();
    bench.unsynced.clear();
    bench.applies = false;
    bench.restart();
    let given = |bench: &Bench| {
        let length = |output: &Output| match output {
            Output::Commit(entries) => entries.len(),
            _ => 0,
        };
        bench.outputs.iter().map(length).sum::<usize>()
    };
    let held_back = given(&bench);
    assert!((32..40).contains(&held_back), "{held_back} entries at once");
    bench.applies = true;
    for output in std::mem::take(&mut bench.outputs) {
        if let Output::Commit(entries) = output {
            bench.apply(entries);
            bench.run();
        }
    }
    bench.settle();
    assert_eq!(bench.log().last(), Some(&(83, 3, &b""[..])));
}

#[test]
fn logs_that_cannot_be_taken_up_are_refused() {
    let entry = |index, term| raftpb::Entry {
        index: Some(index),
        term: Some(term),
        ..Default::default()
    };
    let state = |term, commit| raftpb::HardState {
        term: Some(term),
        vote: Some(0),
        commit: Some(commit),
    };
    let check = |state, entries, expected| {
        let snapshot = walpb::Snapshot::default();
        let error = Consensus::restore(config(1), &snapshot, state, entries).map(drop);
        assert_eq!(error, Err(expected));
    };
    check(
        raftpb::HardState::default(),
        vec![entry(1, 1)],
        RestoreError::Unfinished,
    );
    check(
        state(1, 2),
        vec![entry(1, 1)],
        RestoreError::Commit {
            commit: 2,
            first: 1,
            last: 1,
        },
    );
    check(
        state(1, 1),
        vec![entry(1, 1), entry(3, 1)],
        ConvertError::EntryOrder {
            expected: 2,
            found: 3,
            term: 1,
        }
        .into(),
    );
    let unknown = raftpb::Entry {
        r#type: Some(9),
        ..entry(1, 1)
    };
    check(
        state(1, 1),
        vec![unknown],
        ConvertError::EntryType(9).into(),
    );
}

#[test]
fn reads_wait_for_the_first_commit_of_the_term_and_share_a_round() {
    let mut bench = Bench::bootstrap(config(1), &[1]);
    bench.input(Input::Read(ReadToken(1)));
    bench.sync();
    bench.input(Input::Read(ReadToken(2)));
    assert_eq!(bench.consensus.status().leadership.role, Role::Leader);
    assert_eq!(
        bench.read_ready(),
        [],
        "the empty entry of the term is not durable"
    );
    bench.sync();
    assert_eq!(bench.read_ready(), [(vec![1, 2], 2)]);
    bench.input(Input::Read(ReadToken(3)));
    assert_eq!(
        bench.read_ready()[1..],
        [(vec![3], 2)],
        "no write is needed for a read"
    );
}

#[test]
fn too_many_unapplied_entries_refuse_proposals() {
    let mut bench = Bench::lone();
    bench.applies = false;
    let proposal = |id| Proposal {
        id: RequestId(id),
        data: Bytes::from_static(b"x"),
    };
    bench.input(Input::Propose(
        (0..=PENDING_APPLY_ENTRIES_MAX).map(proposal).collect(),
    ));
    assert_eq!(bench.refused(), []);
    bench.sync();
    bench.propose(9999, b"x");
    assert_eq!(bench.refused(), [(9999, Refusal::TooManyRequests)]);
    bench.input(Input::Applied(LogIndex(3)));
    bench.propose(10000, b"x");
    assert_eq!(bench.refused().len(), 1, "one applied entry makes room");
}

/// A follower with a slow disk once refused what a client of its own asked for while the others went on without it: in
/// three members under full load, all of them asked.
#[test]
fn entries_that_wait_for_the_disk_refuse_no_proposals() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let slow = (leader + 1) % 3;
    let proposal = |id| Proposal {
        id: RequestId(id),
        data: Bytes::from_static(b"x"),
    };
    let many = (1..=2 * PENDING_APPLY_ENTRIES_MAX).map(proposal).collect();
    cluster.members[leader].input(Input::Propose(many));
    cluster.settle_but(Some(slow));
    let status = cluster.members[slow].consensus.status();
    assert!(
        status.committed.0 - status.applied.0 > PENDING_APPLY_ENTRIES_MAX,
        "{status:?}"
    );
    cluster.members[slow].propose(50_000, b"of the slow one");
    assert_eq!(cluster.members[slow].refused(), []);
    cluster.settle();
    let log = cluster.members[leader].log();
    assert_eq!(log.last().map(|it| it.2), Some(&b"of the slow one"[..]));
}

#[test]
fn without_a_leader_requests_are_held_and_then_refused() {
    let mut bench = Bench::bootstrap(config(1), &[1, 2, 3]);
    bench.settle();
    bench.propose(1, b"x");
    bench.input(Input::Read(ReadToken(2)));
    for _ in 0..bench.config.request_timeout_ticks {
        bench.input(Input::Tick);
        bench.settle();
    }
    assert_eq!(bench.refused(), []);
    bench.input(Input::Tick);
    assert_eq!(
        bench.refused(),
        [(2, Refusal::NoLeader), (1, Refusal::NoLeader)]
    );
    assert!(!bench.log().iter().any(|(_, _, data)| *data == b"x"));
}

#[test]
fn more_proposals_than_are_held_without_a_leader_are_refused() {
    let mut bench = Bench::bootstrap(config(1), &[1, 2, 3]);
    bench.settle();
    let proposal = |id| Proposal {
        id: RequestId(id),
        data: Bytes::from_static(b"x"),
    };
    let last = HELD_PROPOSALS_MAX as u64 + 1;
    bench.input(Input::Propose((1..=last).map(proposal).collect()));
    assert_eq!(bench.refused(), [(last, Refusal::TooManyRequests)]);
}

#[test]
fn the_log_in_memory_is_trimmed() {
    let mut config = config(1);
    (config.snapshot_count, config.catch_up_entries) = (10, 5);
    let mut bench = Bench::bootstrap(config, &[1]);
    bench.settle();
    for id in 3..=15 {
        bench.propose(id, b"x");
        bench.settle();
    }
    assert_eq!(bench.consensus.status().last, LogIndex(15));
    assert_eq!(bench.consensus.trimmed(), LogIndex(10));
}

#[test]
fn the_log_in_memory_is_trimmed_by_bytes_of_what_is_applied() {
    static LARGE: [u8; CATCH_UP_BYTES_ALONE as usize / 4] =
        [b'x'; CATCH_UP_BYTES_ALONE as usize / 4];
    let mut bench = Bench::lone();
    for id in 3..=15 {
        bench.propose(id, &LARGE);
        bench.settle();
    }
    assert_eq!(bench.consensus.trimmed(), LogIndex(12), "three fit beside");

    let mut cluster = Cluster::with(3, |id| Config {
        catch_up_bytes_max: 1000,
        ..config(id)
    });
    let leader = cluster.elect();
    let behind = (leader + 1) % 3;
    for id in 1..=30 {
        cluster.members[leader].propose(id, &[b'x'; 100]);
        cluster.settle_without(behind);
    }
    let leads = &cluster.members[leader].consensus;
    let held = leads.status().last.0 - leads.trimmed().0;
    assert_eq!(held, 8, "100 bytes and 24 beside them");
    cluster.tick();
    assert_eq!(snapshots(&cluster.members[leader]), [1]);
}

#[test]
fn conf_changes_reach_the_configuration_in_etcds_numbering() {
    let mut bench = Bench::lone();
    let change = |id, kind, node| {
        Input::ProposeConfChange(raftpb::ConfChange {
            id: Some(id),
            r#type: Some(kind),
            node_id: Some(node),
            context: None,
        })
    };
    bench.input(change(1, 3, 9));
    bench.settle();
    assert_eq!(bench.consensus.conf_state().learners, [9]);
    assert_eq!(bench.consensus.conf_state().voters, [1]);
    bench.input(change(2, 2, 9));
    bench.settle();
    assert_eq!(
        bench.consensus.conf_state().learners,
        [9],
        "an update leaves it alone"
    );
    bench.input(change(3, 7, 9));
    assert_eq!(bench.refused(), [(3, Refusal::Malformed)]);
    let bytes = bench.log()[2].2;
    let logged = raftpb::ConfChange::decode(bytes).expect("as proposed");
    assert_eq!((logged.id(), logged.r#type), (1, Some(3)));
}

#[test]
fn a_second_voter_ends_reads_without_a_round_before_it_hears_anything() {
    let mut bench = Bench::lone();
    // A learner has no vote: what is acknowledged is still acknowledged here.
    for (kind, node, alone) in [(3, 8, true), (0, 9, false)] {
        assert!(bench.consensus.status().leadership.alone);
        // Whoever is there, if without a vote, has to hear of its leader.
        assert_eq!(bench.consensus.needs_ticks(), node == 9);
        bench.outputs.clear();
        bench.input(Input::ProposeConfChange(raftpb::ConfChange {
            id: Some(1),
            r#type: Some(kind),
            node_id: Some(node),
            context: None,
        }));
        bench.settle();
        assert_eq!(bench.consensus.status().leadership.alone, alone, "{node}");
        let is_told =
            |output: &Output| matches!(output, Output::Send(message) if message.to() == node);
        let sent = bench.outputs.iter().position(is_told);
        let ended = bench.outputs.iter().position(
            |output| matches!(output, Output::Leadership(leadership) if !leadership.alone),
        );
        assert!(sent.is_some(), "the new member is spoken to");
        assert_eq!(ended.is_some_and(|ended| Some(ended) < sent), !alone);
    }
}

#[test]
fn a_change_that_raft_cannot_carry_out_stops_the_member() {
    let mut bench = Bench::lone();
    bench.input(Input::ConfChanged {
        index: LogIndex(2),
        change: raftpb::ConfChange {
            r#type: Some(1),
            node_id: Some(1),
            ..Default::default()
        },
    });
    assert!(
        matches!(bench.outputs[..], [Output::Stop(_)]),
        "{:?}",
        bench.outputs
    );
}

/// Some members and the messages between them, which travel as bytes.
struct Cluster {
    members: Vec<Bench>,
}

impl Cluster {
    fn new(count: u64) -> Self {
        Self::with(count, config)
    }

    fn with(count: u64, config: fn(u64) -> Config) -> Self {
        let ids: Vec<u64> = (1..=count).collect();
        let members = ids
            .iter()
            .map(|&id| Bench::bootstrap(config(id), &ids))
            .collect();
        let mut cluster = Cluster { members };
        cluster.settle();
        cluster
    }

    /// Syncs and delivers until nothing moves.
    fn settle(&mut self) {
        self.settle_but(None);
    }

    /// The same, but one of them does not sync.
    fn settle_but(&mut self, slow: Option<usize>) {
        loop {
            let mut sent = Vec::new();
            for (place, member) in self.members.iter_mut().enumerate() {
                if Some(place) != slow {
                    member.settle();
                }
                sent.extend(member.sent());
            }
            if sent.is_empty() {
                return;
            }
            sent.into_iter().for_each(|message| self.deliver(message));
        }
    }

    /// Syncs and delivers, but for what is from or to one of them.
    fn settle_without(&mut self, apart: usize) {
        let is_lost = |message: &raftpb::Message| {
            let ends = [message.from(), message.to()];
            ends.contains(&(apart as u64 + 1))
        };
        loop {
            self.members.iter_mut().for_each(Bench::settle);
            let mut sent: Vec<_> = self.members.iter_mut().flat_map(Bench::sent).collect();
            sent.retain(|message| !is_lost(message));
            if sent.is_empty() {
                return;
            }
            sent.into_iter().for_each(|message| self.deliver(message));
        }
    }

    fn deliver(&mut self, message: raftpb::Message) {
        let bytes = message.encode_to_vec();
        let message = raftpb::Message::decode(&bytes[..]).expect("just encoded");
        let to = message.to() as usize - 1;
        self.members[to].input(Input::Message(Box::new(message)));
    }

    fn tick(&mut self) {
        self.members
            .iter_mut()
            .for_each(|member| member.input(Input::Tick));
        self.settle();
    }

    fn elect(&mut self) -> usize {
        for _ in 0..2 * self.members[0].config.election_ticks {
            self.tick();
            let leads = |member: &Bench| member.consensus.is_leading();
            if let Some(leader) = self.members.iter().position(leads) {
                return leader;
            }
        }
        panic!("no leader after the longest time-out");
    }
}

#[test]
fn three_members_elect_replicate_read_and_hand_over() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let follower = (leader + 1) % 3;
    cluster.members[leader].propose(1, b"from the leader");
    cluster.members[follower].propose(2, b"forwarded");
    cluster.settle();
    cluster.tick();
    let log = cluster.members[leader].log();
    assert_eq!(
        log[..3]
            .iter()
            .map(|(index, term, _)| (*index, *term))
            .collect::<Vec<_>>(),
        [(1, 1), (2, 1), (3, 1)]
    );
    assert!(log.iter().any(|(_, _, data)| *data == b"forwarded"));
    for member in &cluster.members {
        assert_eq!(member.log(), log);
    }
    cluster.members[follower].input(Input::Read(ReadToken(5)));
    cluster.settle();
    assert_eq!(cluster.members[follower].read_ready(), [(vec![5], 6)]);

    let target = MemberId(follower as u64 + 1);
    cluster.members[leader].input(Input::TransferLeader(target));
    cluster.members[leader].propose(3, b"while handing over");
    cluster.settle();
    cluster.tick();
    assert!(cluster.members[follower].consensus.is_leading());
    let log = cluster.members[leader].log();
    assert_eq!(
        log.last().map(|entry| entry.2),
        Some(&b"while handing over"[..])
    );
}

/// What the leader of `members` sends when a follower asks for a read index under a changed context.
fn asked(members: u64, change: impl Fn(&mut Vec<u8>)) -> Vec<raftpb::MessageType> {
    let mut cluster = Cluster::new(members);
    let leader = cluster.elect();
    let follower = (leader + 1) % members as usize;
    cluster.members[follower].input(Input::Read(ReadToken(5)));
    for mut question in cluster.members[follower].sent() {
        let mut context = question.entries[0].data().to_vec();
        change(&mut context);
        question.entries[0].data = Some(context.into());
        cluster.deliver(question);
    }
    let answer = cluster.members[leader].sent();
    let types = answer.iter().map(raftpb::Message::r#type).collect();
    answer
        .into_iter()
        .for_each(|message| cluster.deliver(message));
    cluster.settle();
    types
}

#[test]
fn a_question_that_completes_a_quorum_is_answered_without_a_round() {
    use raftpb::MessageType::{MsgHeartbeat, MsgReadIndexResp};
    assert_eq!(asked(2, |_| {}), [MsgReadIndexResp]);
    assert_eq!(asked(3, |_| {}), [MsgReadIndexResp]);
    let round = [MsgHeartbeat; 4];
    assert_eq!(asked(4, |_| {}), round[..3], "two of four decide nothing");
    assert_eq!(asked(5, |_| {}), round);
    let official = |context: &mut Vec<u8>| context.truncate(8);
    assert_eq!(asked(3, official), round[..2], "it tells no term");
    let earlier_term = |context: &mut Vec<u8>| context[31] -= 1;
    assert_eq!(asked(3, earlier_term), round[..2]);
    let somebody_else = |context: &mut Vec<u8>| context[7] ^= 3;
    assert_eq!(asked(3, somebody_else), round[..2]);
}

/// Numbers of the snapshots that a member has sent.
fn snapshots(member: &Bench) -> Vec<u64> {
    let number = |output: &Output| match output {
        Output::SendSnapshot(number, _) => Some(number.0),
        _ => None,
    };
    member.outputs.iter().filter_map(number).collect()
}

#[test]
fn the_end_of_a_former_snapshot_begins_no_other() {
    let mut cluster = Cluster::with(3, |id| {
        let mut config = config(id);
        (config.snapshot_count, config.catch_up_entries) = (10, 5);
        config
    });
    let leader = cluster.elect();
    let (other, behind) = ((leader + 1) % 3, (leader + 2) % 3);
    for id in 1..=30 {
        cluster.members[leader].propose(id, b"x");
        cluster.settle_without(behind);
    }
    cluster.tick();
    assert_eq!(snapshots(&cluster.members[leader]), [1]);
    for (from, to) in [(leader, other), (other, leader)] {
        let to = MemberId(to as u64 + 1);
        cluster.members[from].input(Input::TransferLeader(to));
        cluster.settle();
    }
    assert!(cluster.members[leader].consensus.is_leading());
    cluster.tick();
    assert_eq!(snapshots(&cluster.members[leader]), [1, 2]);
    let mut failed = |number| {
        let (number, received) = (SnapshotNumber(number), false);
        cluster.members[leader].input(Input::SnapshotSent { number, received });
        cluster.tick();
        snapshots(&cluster.members[leader])
    };
    assert_eq!(failed(1), [1, 2], "the second one is on its way");
    assert_eq!(failed(2), [1, 2, 3]);
    assert_eq!(failed(2), [1, 2, 3], "told twice");
}

#[test]
fn a_promise_leaves_only_after_the_disk_has_it() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let follower = (leader + 1) % 3;
    cluster.members[leader].propose(1, b"x");
    let sent = std::mem::take(&mut cluster.members[leader].outputs);
    let append = sent
        .into_iter()
        .find_map(|output| match output {
            Output::Send(message) if message.to() as usize == follower + 1 => Some(message),
            _ => None,
        })
        .expect("the leader replicates before its own disk has it");
    let follower = &mut cluster.members[follower];
    follower.outputs.clear();
    follower.input(Input::Message(append));
    assert_eq!(follower.outputs, [], "no acknowledgement yet");
    follower.sync();
    assert!(matches!(follower.outputs[..], [Output::Send(_)]));
}

#[test]
fn messages_that_do_not_fit_this_log_change_nothing() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let before = cluster.members[leader].consensus.status();
    let bad = |kind, commit, index, to| raftpb::Message {
        r#type: Some(kind),
        from: Some(((leader as u64 + 1) % 3) + 1),
        to: Some(to),
        term: Some(before.leadership.term.0),
        commit: Some(commit),
        index: Some(index),
        ..Default::default()
    };
    let to = leader as u64 + 1;
    for message in [
        bad(8, 99, 0, to),
        bad(4, 0, 99, to),
        bad(9, 0, 0, 77),
        bad(99, 0, 0, to),
    ] {
        cluster.members[leader].input(Input::Message(Box::new(message)));
    }
    assert_eq!(cluster.members[leader].consensus.status(), before);
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect();
        cluster.members[leader].propose(1, b"x");
        cluster.members[leader].input(Input::Read(ReadToken(1)));
        cluster.settle();
        for _ in 0..30 {
            cluster.tick();
        }
        let state = |member: &Bench| format!("{:?} {:?}", member.outputs, member.applied);
        cluster.members.iter().map(state).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_snapshot_is_recorded_with_no_commit_index_beyond_itself() {
    let mut consensus = Consensus::join(config(3)).expect("settings that fit");
    let message = |kind: raftpb::MessageType| raftpb::Message {
        r#type: Some(kind as i32),
        from: Some(1),
        to: Some(3),
        term: Some(2),
        index: Some(10),
        log_term: Some(2),
        ..Default::default()
    };
    let conf_state = raftpb::ConfState {
        voters: vec![1, 2, 3],
        ..Default::default()
    };
    let metadata = raftpb::SnapshotMetadata {
        conf_state: Some(conf_state),
        index: Some(10),
        term: Some(2),
    };
    consensus.input(Input::Snapshot(Box::new(raftpb::Message {
        snapshot: Some(raftpb::Snapshot {
            data: None,
            metadata: Some(metadata),
        }),
        ..message(raftpb::MessageType::MsgSnap)
    })));
    consensus.input(Input::Message(Box::new(raftpb::Message {
        entries: vec![raftpb::Entry {
            r#type: Some(0),
            term: Some(2),
            index: Some(11),
            data: None,
        }],
        commit: Some(11),
        ..message(raftpb::MessageType::MsgApp)
    })));
    consensus.poll();
    let outputs: Vec<_> = std::iter::from_fn(|| consensus.take_output()).collect();
    let commits: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::AppendSnapshot { hard_state, .. } => hard_state.commit,
            Output::Append(append) => append.hard_state.and_then(|state| state.commit),
            _ => None,
        })
        .collect();
    assert_eq!(commits, [10, 11], "{outputs:?}");
}
