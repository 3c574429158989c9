//! The wire types of etcd: what travels to clients and peers and what lies on disk.
//!
//! The modules are generated from `proto/*.proto` by `cargo xtask codegen` and named after the
//! protobuf packages, which are etcd's. Nothing here decides anything; [`ids`] gives the numbers
//! that pass between crates a type each.

pub mod ids;

macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, unused_qualifications, clippy::all)]
        pub mod $name {
            include!(concat!("generated/", $file, ".rs"));
        }
    };
}

package!(
    /// Users, roles and permissions.
    authpb, "authpb"
);
package!(
    /// The client API and the requests inside log entries.
    etcdserverpb, "etcdserverpb"
);
package!(
    /// Leases as stored.
    leasepb, "leasepb"
);
package!(
    /// Membership changes inside normal log entries.
    membershippb, "membershippb"
);
package!(
    /// Key-value pairs and events.
    mvccpb, "mvccpb"
);
package!(
    /// Raft on disk and between members.
    raftpb, "raftpb"
);
package!(
    /// The envelope of a raft snapshot file.
    snappb, "snappb"
);
package!(
    /// The election service.
    v3electionpb, "v3electionpb"
);
package!(
    /// The lock service.
    v3lockpb, "v3lockpb"
);
package!(
    /// Records of the write-ahead log.
    walpb, "walpb"
);
package!(
    /// The health service of gRPC.
    health, "grpc.health.v1"
);
