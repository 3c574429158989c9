//! Leases: keys that go away when nobody renews them.

use std::time::Duration;

use kvorum_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use kvorum_proto::ids::LeaseId;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Client, Method, Retry};
use crate::connection::Call;
use crate::error::{Code, Error, Status};

const GRANT: Method<LeaseGrantRequest, LeaseGrantResponse> =
    Method::new("/etcdserverpb.Lease/LeaseGrant", Retry::Repeatable);
const REVOKE: Method<LeaseRevokeRequest, LeaseRevokeResponse> =
    Method::new("/etcdserverpb.Lease/LeaseRevoke", Retry::Repeatable);
const TIME_TO_LIVE: Method<LeaseTimeToLiveRequest, LeaseTimeToLiveResponse> =
    Method::new("/etcdserverpb.Lease/LeaseTimeToLive", Retry::Repeatable);
const LEASES: Method<LeaseLeasesRequest, LeaseLeasesResponse> =
    Method::new("/etcdserverpb.Lease/LeaseLeases", Retry::Repeatable);
const KEEP_ALIVE: Method<LeaseKeepAliveRequest, LeaseKeepAliveResponse> =
    Method::new("/etcdserverpb.Lease/LeaseKeepAlive", Retry::Repeatable);

/// Taken for the time to live until the server has said it.
const TTL_ASSUMED: Duration = Duration::from_secs(5);
/// Pause before a broken keep-alive stream is replaced.
const RESUME_PAUSE: Duration = Duration::from_millis(500);
/// A lease is renewed when this part of its time to live has passed.
const RENEW_AFTER: u32 = 3;

impl Client {
    /// Grants a lease for `ttl_seconds`; the server chooses the ID.
    ///
    /// # Errors
    /// What the server refuses. Tried again when nobody serves it; a lease that was granted by an
    /// attempt without an answer expires by itself.
    pub async fn lease_grant(&self, ttl_seconds: i64) -> Result<LeaseGrantResponse, Error> {
        let request = LeaseGrantRequest {
            ttl: ttl_seconds,
            id: 0,
        };
        self.call(&GRANT, &request).await
    }

    /// Revokes a lease and deletes its keys.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn lease_revoke(&self, lease: LeaseId) -> Result<LeaseRevokeResponse, Error> {
        self.call(&REVOKE, &LeaseRevokeRequest { id: lease.0 })
            .await
    }

    /// Remaining and granted time of a lease, and with `keys` the keys attached to it. A lease
    /// that does not exist has a remaining time of -1.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn lease_time_to_live(
        &self,
        lease: LeaseId,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        self.call(&TIME_TO_LIVE, &LeaseTimeToLiveRequest { id: lease.0, keys })
            .await
    }

    /// All leases.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn leases(&self) -> Result<LeaseLeasesResponse, Error> {
        self.call(&LEASES, &LeaseLeasesRequest {}).await
    }

    /// Renews a lease once.
    ///
    /// # Errors
    /// "requested lease not found" if it is gone, and what the server refuses.
    pub async fn lease_keep_alive_once(
        &self,
        lease: LeaseId,
    ) -> Result<LeaseKeepAliveResponse, Error> {
        loop {
            let mut stream = self
                .open(&KEEP_ALIVE, &LeaseKeepAliveRequest { id: lease.0 })
                .await?;
            match stream.receive::<LeaseKeepAliveResponse>().await {
                Ok(Some(response)) if response.ttl > 0 => return Ok(response),
                Ok(Some(_)) => {
                    let text = "etcdserver: requested lease not found";
                    return Err(Status::new(Code::NOT_FOUND, text).into());
                }
                Ok(None) => return Err(Error::Protocol("a keep-alive without an answer")),
                Err(failure) => {
                    let status = failure.into_status();
                    let used = stream.token.as_ref();
                    if status.code != Code::UNAVAILABLE
                        && !self.is_worth_another(used, &status).await
                    {
                        return Err(status.into());
                    }
                    tokio::time::sleep(RESUME_PAUSE).await;
                }
            }
        }
    }

    /// Keeps a lease alive as long as [`LeaseKeeper::next`] is called.
    pub fn lease_keep_alive(&self, lease: LeaseId) -> LeaseKeeper {
        let now = Instant::now();
        LeaseKeeper {
            client: self.clone(),
            lease,
            stream: None,
            next_renewal: now,
            deadline: now + TTL_ASSUMED,
            awaits_answer: false,
        }
    }
}

/// Renews one lease, three times within its time to live.
///
/// The renewing happens in [`LeaseKeeper::next`] and not in the background: a program that stops
/// calling it loses the lease, as it should if it hangs.
///
/// ```no_run
#[doc = include_str!("../docs/lease.rs")]
/// ```
pub struct LeaseKeeper {
    client: Client,
    lease: LeaseId,
    stream: Option<Call>,
    /// When to send the next renewal.
    next_renewal: Instant,
    /// When the lease counts as lost unless an answer comes before.
    deadline: Instant,
    /// A renewal was sent and not answered.
    awaits_answer: bool,
}

impl LeaseKeeper {
    /// Renews the lease when it is time and returns the answer. None: the lease is gone, or could
    /// not be renewed for its whole time to live and must be taken for gone.
    ///
    /// The future may be dropped and asked for again.
    ///
    /// # Errors
    /// A status that is not temporary.
    pub async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Error> {
        let deadline = self.deadline;
        match timeout_at(deadline, self.renew()).await {
            Ok(Ok(response)) if response.ttl > 0 => Ok(Some(response)),
            Ok(Ok(_)) | Err(_) => Ok(None),
            Ok(Err(error)) => Err(error),
        }
    }

    async fn renew(&mut self) -> Result<LeaseKeepAliveResponse, Error> {
        loop {
            if !self.awaits_answer {
                sleep_until(self.next_renewal).await;
                self.ask().await?;
                continue;
            }
            let Some(stream) = &mut self.stream else {
                self.awaits_answer = false;
                continue;
            };
            let received = stream.receive::<LeaseKeepAliveResponse>().await;
            self.awaits_answer = false;
            match received {
                Ok(Some(response)) => {
                    let ttl = Duration::from_secs(response.ttl.max(0).unsigned_abs());
                    let now = Instant::now();
                    self.next_renewal = now + ttl / RENEW_AFTER;
                    self.deadline = now + ttl;
                    return Ok(response);
                }
                Ok(None) => {}
                Err(failure) => {
                    let status = failure.into_status();
                    let temporary = [Code::UNAVAILABLE, Code::INTERNAL].contains(&status.code);
                    let used = stream.token.clone();
                    if !temporary && !self.client.is_worth_another(used.as_ref(), &status).await {
                        return Err(status.into());
                    }
                }
            }
            self.stream = None;
            self.next_renewal = Instant::now() + RESUME_PAUSE;
        }
    }

    async fn ask(&mut self) -> Result<(), Error> {
        let request = LeaseKeepAliveRequest { id: self.lease.0 };
        let sent = match &mut self.stream {
            Some(stream) => stream.send(&request).is_ok(),
            None => {
                self.stream = Some(self.client.open(&KEEP_ALIVE, &request).await?);
                true
            }
        };
        if sent {
            self.awaits_answer = true;
        } else {
            self.stream = None;
        }
        Ok(())
    }
}
