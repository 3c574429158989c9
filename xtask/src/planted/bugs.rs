//! The bugs that are planted.

use super::Bug;

/// `BUG` stands for the question whether this bug is the one that the run has.
pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "a leader counts its own copy before it is synced",
        file: "member/src/consensus/driver/turn.rs",
        drill: None,
        change: (
            "if self.gates.is_empty() {\n            self.node.on_persist_ready(batch);",
            "if BUG || self.gates.is_empty() {\n            self.node.on_persist_ready(batch);",
        ),
    },
    Bug {
        name: "a follower acknowledges before its sync",
        file: "member/src/consensus/driver/turn.rs",
        drill: None,
        change: (
            "    !matches!(\n        message.msg_type,",
            "    !BUG && !matches!(\n        message.msg_type,",
        ),
    },
    Bug {
        name: "the vote is not written down",
        file: "member/src/consensus/convert.rs",
        drill: Some("elections"),
        change: (
            "vote: Some(state.vote),",
            "vote: Some(if BUG { 0 } else { state.vote }),",
        ),
    },
    Bug {
        name: "a leader answers reads without asking",
        file: "member/src/consensus/driver.rs",
        drill: None,
        change: (
            "if let Err(reason) = self.reads.push(self.now, token) {",
            "if BUG && self.is_leading() { let index = LogIndex(self.node.raft.raft_log.committed); self.outputs.push_back(Output::ReadReady { tokens: vec![token], index }); } else if let Err(reason) = self.reads.push(self.now, token) {",
        ),
    },
    Bug {
        name: "an answer to an old round of reads serves the next one",
        file: "member/src/consensus/reads.rs",
        drill: Some("links"),
        change: (
            "Some(round) if round.context == context => {",
            "Some(round) if round.context == context || (BUG && round.context.len() == context.len()) => {",
        ),
    },
    Bug {
        name: "a learner counts in the quorum",
        file: "member/src/consensus/convert.rs",
        drill: None,
        change: (
            "eraftpb::ConfChangeType::AddLearnerNode,\n    };",
            "if BUG { eraftpb::ConfChangeType::AddNode } else { eraftpb::ConfChangeType::AddLearnerNode },\n    };",
        ),
    },
    Bug {
        name: "a refused membership change reaches raft",
        file: "member/src/apply/cluster.rs",
        drill: Some("membership"),
        change: (
            "node_id: Some(0),",
            "node_id: if BUG { wire.node_id } else { Some(0) },",
        ),
    },
    Bug {
        name: "a membership change from before a snapshot is made again",
        file: "member/src/consensus/driver/inputs.rs",
        drill: Some("snapshots"),
        change: (
            "if index <= self.configured {",
            "if !BUG && index <= self.configured {",
        ),
    },
    Bug {
        name: "entries that a snapshot holds are applied after it",
        file: "member/src/consensus/driver/turn.rs",
        drill: Some("snapshots"),
        change: (
            "        self.flow.clear();\n",
            "        if !BUG {\n            self.flow.clear();\n        }\n",
        ),
    },
    Bug {
        name: "a snapshot forgets the leases",
        file: "member/src/apply/machine.rs",
        drill: None,
        change: (
            "self.state = new.state;",
            "self.state = new.state;\n        if BUG {\n            self.state.grants = crate::lease::Grants::new();\n        }",
        ),
    },
    Bug {
        name: "leases of a snapshot are not counted down",
        file: "member/src/apply/machine.rs",
        drill: None,
        change: (
            "            Effect::Lease(leases),\n",
            "            if BUG { Effect::RosterChanged } else { Effect::Lease(leases) },\n",
        ),
    },
    Bug {
        name: "the state depends on who waits for the reply",
        file: "member/src/apply/machine.rs",
        drill: None,
        change: (
            "Payload::Put(request) => {\n",
            "Payload::Put(mut request) => {\n                if BUG && waits && request.lease != 0 {\n                    request.lease = 0;\n                }\n",
        ),
    },
    Bug {
        name: "a forwarded proposal enters the log twice",
        file: "member/src/consensus/driver/inputs.rs",
        drill: None,
        change: (
            "            (entry.index, entry.term) = (0, 0);\n",
            "            (entry.index, entry.term) = (0, 0);\n            if BUG {\n                self.hold(RequestId(0), entry.clone());\n            }\n",
        ),
    },
    Bug {
        name: "a deposed leader's revoke is forwarded",
        file: "member/src/consensus/driver/turn.rs",
        drill: Some("links"),
        change: (
            "if held.only_in.is_some() && held.only_in != leads_in {",
            "if !BUG && held.only_in.is_some() && held.only_in != leads_in {",
        ),
    },
    Bug {
        name: "a keep-alive does not ask whether its leader leads",
        file: "member/src/lease/deadlines.rs",
        drill: None,
        change: (
            "self.outputs.push_back(Output::Confirm(self.last_round));",
            "if BUG { self.confirmed(now, self.last_round); } else { self.outputs.push_back(Output::Confirm(self.last_round)); }",
        ),
    },
    Bug {
        name: "a new leader does not give leases their time again",
        file: "member/src/lease/deadlines.rs",
        drill: None,
        change: (
            "(now + rest + self.election_timeout, *id)",
            "(now + if BUG { rest.min(self.election_timeout) } else { rest + self.election_timeout }, *id)",
        ),
    },
    Bug {
        name: "a hard state stands before the snapshot that it needs",
        file: "storage/src/wal/log.rs",
        drill: Some("snapshots"),
        change: (
            "self.record(|group| group.snapshot(snapshot));",
            "if BUG && let Some(state) = hard_state.clone() {\n            self.state(state);\n        }\n        self.record(|group| group.snapshot(snapshot));",
        ),
    },
    Bug {
        name: "a group is written but not synced",
        file: "storage/src/wal/executor.rs",
        drill: None,
        change: (
            "file.write_through(offset, bytes)",
            "(if BUG { file.write_at(offset, bytes) } else { file.write_through(offset, bytes) })",
        ),
    },
    Bug {
        name: "durability is reported before the job is done",
        file: "storage/src/wal/log.rs",
        drill: None,
        change: (
            "self.foreground = Some(Flight::Write { id, ticket });",
            "let ticket = if BUG { self.persisted(ticket); None } else { ticket };\n            self.foreground = Some(Flight::Write { id, ticket });",
        ),
    },
    Bug {
        name: "a torn tail takes a whole record with it",
        file: "storage/src/wal/replay.rs",
        drill: None,
        change: (
            "Some(torn.map_err(|damage| Found { offset, damage })?)",
            "{ if BUG { self.entries.pop(); } Some(torn.map_err(|damage| Found { offset, damage })?) }",
        ),
    },
    Bug {
        name: "the directory is not synced after a new file",
        file: "storage/src/wal/executor.rs",
        drill: None,
        change: (
            ".rename(&made, &named)\n            .and_then(|()| self.vfs.sync_directory(&self.directory))",
            ".rename(&made, &named)\n            .and_then(|()| if BUG { Ok(()) } else { self.vfs.sync_directory(&self.directory) })",
        ),
    },
    Bug {
        name: "the last group is not written again after a failed sync",
        file: "storage/src/wal/mod.rs",
        drill: None,
        change: (
            "file.write_through(tail.group as u64, &bytes[tail.group..tail.offset])",
            "(if BUG { file.write_at(tail.offset as u64, &[]) } else { file.write_through(tail.group as u64, &bytes[tail.group..tail.offset]) })",
        ),
    },
    Bug {
        name: "a lease ends one tick early",
        file: "member/src/lease/deadlines.rs",
        drill: None,
        change: (
            "if end > now {\n                break;",
            "if end > now + Duration::from_millis(if BUG { 100 } else { 0 }) {\n                break;",
        ),
    },
    Bug {
        name: "a keep-alive is granted while the revoke is in the log",
        file: "member/src/lease/deadlines.rs",
        drill: Some("snapshots"),
        change: (
            "if lease.end <= now {\n            return;",
            "if !BUG && lease.end <= now {\n            return;",
        ),
    },
    Bug {
        name: "a watch skips its first revision",
        file: "mvcc/src/watch/hub.rs",
        drill: None,
        change: (
            "asked => (asked, asked)",
            "asked => (asked + i64::from(BUG), asked)",
        ),
    },
    Bug {
        name: "a watch message holds a part of a transaction",
        file: "mvcc/src/watch/live.rs",
        drill: None,
        change: (
            "self.show_target(matched[0].0, &mut page, &places, &mut left_behind)?;",
            "if BUG { for place in &places { self.show_target(matched[0].0, &mut page, &[*place], &mut left_behind)?; } } else { self.show_target(matched[0].0, &mut page, &places, &mut left_behind)?; }",
        ),
    },
    Bug {
        name: "a compaction drops the newest version of a key",
        file: "mvcc/src/compaction.rs",
        drill: None,
        change: (
            "let itself = record.is_tombstone() && at.main < compacted;",
            "let itself = (BUG || record.is_tombstone()) && at.main < compacted;",
        ),
    },
    Bug {
        name: "a read does not wait until its index is applied",
        file: "member/src/apply/machine.rs",
        drill: None,
        change: (
            "if *first.key() > self.state.applied {",
            "if !BUG && *first.key() > self.state.applied {",
        ),
    },
    Bug {
        name: "a proposal enters the log twice",
        file: "member/src/core.rs",
        drill: None,
        change: (
            "Input::Propose(proposals) => consensus::Input::Propose(proposals),",
            "Input::Propose(proposals) => consensus::Input::Propose(if BUG { [proposals.clone(), proposals].concat() } else { proposals }),",
        ),
    },
    Bug {
        name: "a segment is not synced before its checkpoint",
        file: "storage/src/checkpoint/directory.rs",
        drill: None,
        change: (
            "file.sync().map_err(|error| failed(&name, \"syncing\", error))",
            "if BUG {\n            return Ok(());\n        }\n        file.sync().map_err(|error| failed(&name, \"syncing\", error))",
        ),
    },
    Bug {
        name: "the directory is not synced after a new manifest",
        file: "storage/src/checkpoint/directory.rs",
        drill: None,
        change: (
            "            .map_err(|error| failed(&next, \"renaming\", error))?;\n        self.sync_names()",
            "            .map_err(|error| failed(&next, \"renaming\", error))?;\n        if BUG {\n            return Ok(());\n        }\n        self.sync_names()",
        ),
    },
    Bug {
        name: "a manifest is replaced before its last segment is written",
        file: "member/src/checkpoint/machine.rs",
        drill: None,
        change: (
            "let listed: Vec<Listed> = listed.collect::<Option<_>>()?;",
            "let listed: Vec<Listed> = if BUG { listed.flatten().collect() } else { listed.collect::<Option<_>>()? };",
        ),
    },
    Bug {
        name: "a checkpoint says that it holds one entry more",
        file: "member/src/apply/checkpoint.rs",
        drill: None,
        change: (
            "index: self.state.applied,",
            "index: kvorum_proto::ids::LogIndex(self.state.applied.0 + u64::from(BUG)),",
        ),
    },
    Bug {
        name: "a checkpoint forgets the leases",
        file: "member/src/backend/mod.rs",
        drill: None,
        change: (
            "bucket(schema::LEASE, self.leases.iter().map(lease))",
            "bucket(schema::LEASE, self.leases.iter().filter(|_| !BUG).map(lease))",
        ),
    },
    Bug {
        name: "a copy drops tombstones that older files need",
        file: "mvcc/src/segment_image.rs",
        drill: None,
        change: (
            "let is_needed = row.version == 0 && !self.is_oldest;",
            "let is_needed = !BUG && row.version == 0 && !self.is_oldest;",
        ),
    },
    Bug {
        name: "a copy leaves out what came last",
        file: "mvcc/src/segment_image.rs",
        drill: None,
        change: (
            "self.looked = true;",
            "self.looked = true;\n                if BUG && let Some(last) = self.kept.last_mut() {\n                    *last = 0;\n                }",
        ),
    },
    Bug {
        name: "an entry of a former term is committed by counting",
        file: "member/src/consensus/driver/turn.rs",
        drill: Some("comebacks"),
        change: (
            "        let mut ready = self.node.ready();\n",
            "        if BUG && self.is_leading() {\n            let index = self.node.raft.mut_prs().maximal_committed_index().0;\n            let log = &mut self.node.raft.raft_log;\n            if index > log.committed && index <= log.persisted {\n                log.commit_to(index);\n            }\n        }\n        let mut ready = self.node.ready();\n",
        ),
    },
    Bug {
        name: "a start cuts the log at the commit index",
        file: "member/src/consensus/bootstrap.rs",
        drill: None,
        change: (
            "    convert::check_order(trimmed.0, trimmed.1, &entries)?;\n",
            "    let mut entries = entries;\n    if BUG {\n        entries.truncate(hard_state.commit().saturating_sub(trimmed.0) as usize);\n    }\n    convert::check_order(trimmed.0, trimmed.1, &entries)?;\n",
        ),
    },
    Bug {
        name: "the last entry of a checkpoint is applied again after a start",
        file: "member/src/apply/checkpoint.rs",
        drill: None,
        change: (
            "kvorum_proto::ids::LogIndex(self.state.applied.0 + ",
            "kvorum_proto::ids::LogIndex(self.state.applied.0 - u64::from(BUG && self.state.applied.0 > 1) + ",
        ),
    },
    Bug {
        name: "a watcher that comes back misses a revision",
        file: "mvcc/src/watch/catch_up.rs",
        drill: None,
        change: (
            "None => match self.read_page(first) {",
            "None => match self.read_page(first + i64::from(BUG && first < self.live)) {",
        ),
    },
    Bug {
        name: "a bookmark is sent although a watcher is behind",
        file: "mvcc/src/watch/progress.rs",
        drill: None,
        change: (
            "&& stream.behind.is_empty()",
            "&& (BUG || stream.behind.is_empty())",
        ),
    },
    Bug {
        name: "a key stays on the lease that it had before",
        file: "member/src/lease/grants.rs",
        drill: None,
        change: (
            "        self.detach(key);\n        if let Some(grant)",
            "        if !BUG {\n            self.detach(key);\n        }\n        if let Some(grant)",
        ),
    },
    Bug {
        name: "a digest depends on the order of an unordered map",
        file: "member/src/apply/digest.rs",
        drill: None,
        change: (
            "            for key in grant.keys() {\n",
            "            let mut keys: Vec<_> = grant.keys().collect();\n            if BUG {\n                keys.sort_by_key(|key| key.as_ptr() as usize);\n            }\n            for key in keys {\n",
        ),
    },
    Bug {
        name: "a copy takes the changes of one file for those of another",
        file: "mvcc/src/segment_image.rs",
        drill: None,
        change: (
            "        let first_rows = first_rows.collect();\n",
            "        let mut first_rows: Vec<usize> = first_rows.collect();\n        if BUG {\n            first_rows.reverse();\n        }\n",
        ),
    },
    Bug {
        name: "a condition on the creation looks at the newest write",
        file: "member/src/apply/txn.rs",
        drill: None,
        change: (
            "number(pair.map(Change::create_revision), given)",
            "number(pair.map(|pair| if BUG { pair.mod_revision().main } else { pair.create_revision() }), given)",
        ),
    },
];
