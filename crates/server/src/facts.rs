//! What the health checks ask of the member.

use kvorum_mvcc::Interval;
use kvorum_proto::etcdserverpb::AlarmType;

use crate::api::http::{ActiveAlarm, HealthFacts, ProbeRead, ProbeSink};
use crate::api::v3::text;
use crate::runtime::Member;
use kvorum_member::cluster::STORAGE_VERSION;

/// The member behind the health endpoints.
pub(crate) struct MemberFacts(pub(crate) Member);

impl HealthFacts for MemberFacts {
    fn alarms(&self) -> Vec<ActiveAlarm> {
        let alarms = self
            .0
            .read_view()
            .cluster
            .alarms
            .list(AlarmType::None as i32);
        let named = alarms
            .iter()
            .map(|alarm| match AlarmType::try_from(alarm.alarm) {
                Ok(AlarmType::Nospace) => ActiveAlarm::NoSpace,
                Ok(AlarmType::Corrupt) => ActiveAlarm::Corrupt,
                _ => ActiveAlarm::Unknown,
            });
        named.collect()
    }

    fn has_leader(&self) -> bool {
        self.0.has_leader()
    }

    fn is_learner(&self) -> bool {
        self.0.is_learner()
    }

    fn probe(&self, read: ProbeRead, done: ProbeSink) {
        let member = self.0.clone();
        let look = move || {
            // The answer is of no interest, only that there is one.
            let _ = member
                .view()
                .count(&Interval::single(bytes::Bytes::new()), 0);
            Ok(())
        };
        match read {
            ProbeRead::Serializable => done.send(look()),
            ProbeRead::Linearizable => self.0.read_index(move |confirmed| {
                done.send(
                    confirmed
                        .map_err(|error| text(error).to_owned())
                        .and_then(|()| look()),
                );
            }),
        }
    }

    fn cluster_version(&self) -> Option<String> {
        self.0
            .read_view()
            .cluster
            .version
            .map(|version| version.to_string())
    }

    fn storage_version(&self) -> Option<String> {
        Some(STORAGE_VERSION.to_string())
    }
}
