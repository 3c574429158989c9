//! `make-mirror`: copies keys into another cluster and follows their changes for ever.
//!
//! Whatever is written there does the same twice as once, so a write whose answer was lost is sent
//! again: a mirror goes on when either cluster restarts.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/make_mirror_command.go`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kvorum_cli::failure::BAD_FEATURE;
use kvorum_cli::progress::{Progress, Unit};
use kvorum_cli::{Failure, Line, print_text};
use kvorum_client::{Client, Error, Mirror, Operation, Txn};
use kvorum_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, WatchResponse};
use kvorum_proto::mvccpb::event::EventType;
use kvorum_proto::mvccpb::{Event, KeyValue};
use tokio::task::JoinSet;

use super::settings;
use crate::failure::failed;
use crate::settings::{Secure, file, user};

/// How often the number of copied pairs is shown.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// How many pairs of the first copy are under way at once.
const PUTS_MAX: usize = 64;

pub(super) async fn run(mut line: Line) -> Result<(), Failure> {
    let [destination] = line.arguments.as_slice() else {
        return Err(Failure::arguments(
            "make-mirror takes one destination argument",
        ));
    };
    let destination = destination.clone();
    let (dest_prefix, without) = (line.text("dest-prefix"), line.flag("no-dest-prefix"));
    let max_operations = usize::try_from(line.uint("max-txn-ops"));
    let max_operations = max_operations.map_err(|_| Failure::new(BAD_FEATURE, "too many"))?;
    let (name, password) = (line.text("dest-user"), line.text("dest-password"));
    let credentials = user(&name, &password, "Destination Password: ").await?;
    let mut secure = Secure::default();
    secure.options.ca_file = file(&line, "dest-cacert");
    secure.options.cert_file = file(&line, "dest-cert");
    secure.options.key_file = file(&line, "dest-key");
    secure.insecure = line.flag("dest-insecure-transport");
    let settings = settings(&mut line).await?;
    let there = settings
        .client_for(&destination, &secure, credentials)
        .await?;
    let here = settings.patient_client().await?;
    if without && !dest_prefix.is_empty() {
        let text =
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one";
        return Err(Failure::arguments(text));
    }
    let prefix = line.text("prefix");
    let dest_prefix = match without || !dest_prefix.is_empty() {
        true => dest_prefix,
        false => prefix.clone(),
    };
    let copy = Copy {
        there: there.with_repeated_writes(),
        prefix: prefix.clone().into(),
        dest_prefix: dest_prefix.into(),
        max_operations,
        total: Arc::default(),
    };
    let total = Arc::clone(&copy.total);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            print_text(&format!("{}\n", total.load(Ordering::Relaxed)));
        }
    });
    let mirror = match line.int("rev") {
        ..=1 => Mirror::new(&here, prefix),
        revision => Mirror::changes_from(&here, prefix, revision),
    };
    Err(failed(copy.run(mirror).await))
}

/// Where pairs go.
struct Copy {
    there: Client,
    prefix: Bytes,
    /// Takes the place of the prefix.
    dest_prefix: Bytes,
    /// Operations of one transaction; 0: as many as come.
    max_operations: usize,
    /// Pairs written and deleted so far.
    total: Arc<AtomicU64>,
}

impl Copy {
    /// Goes on until something cannot be done.
    async fn run(&self, mirror: Mirror) -> Error {
        match self.follow(mirror).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn follow(&self, mut mirror: Mirror) -> Result<std::convert::Infallible, Error> {
        let mut bar = None;
        while let Some(page) = mirror.next_page().await? {
            let bar =
                bar.get_or_insert_with(|| Progress::new(Unit::Things("keys"), mirror.count()));
            self.copy(page).await?;
            bar.set(self.total.load(Ordering::Relaxed));
        }
        drop(bar);
        let mut changes = mirror.changes().await?;
        loop {
            match changes.next().await? {
                Some(response) => self.apply(response).await?,
                None => return Err(Error::Protocol("the watch ended without a reason")),
            }
        }
    }

    /// Writes the pairs of a page, several at once: their order does not matter.
    async fn copy(&self, page: Vec<KeyValue>) -> Result<(), Error> {
        let mut puts: JoinSet<Result<(), Error>> = JoinSet::new();
        for kv in page {
            while puts.len() >= PUTS_MAX {
                self.done(puts.join_next().await)?;
            }
            let (there, put) = (self.there.clone(), self.put(&kv));
            puts.spawn(async move { there.put(&put).await.map(drop) });
        }
        while let Some(put) = puts.join_next().await {
            self.done(Some(put))?;
        }
        Ok(())
    }

    fn done(
        &self,
        put: Option<Result<Result<(), Error>, tokio::task::JoinError>>,
    ) -> Result<(), Error> {
        match put {
            Some(Ok(put)) => put?,
            Some(Err(_)) => return Err(Error::Protocol("a copy was broken off")),
            None => {}
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Does what events did, what one revision did in one transaction.
    async fn apply(&self, response: WatchResponse) -> Result<(), Error> {
        let mut operations = Vec::new();
        let mut revision = 0;
        for event in &response.events {
            let next = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let is_full = operations.len() == self.max_operations && self.max_operations > 0;
            if is_full || next > revision && revision != 0 {
                self.commit(std::mem::take(&mut operations)).await?;
            }
            revision = next;
            operations.push(self.operation(event));
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        self.commit(operations).await
    }

    async fn commit(&self, operations: Vec<Operation>) -> Result<(), Error> {
        if operations.is_empty() {
            return Ok(());
        }
        let txn = operations.into_iter().fold(Txn::new(), Txn::and_then);
        self.there.txn(&txn.build()).await.map(drop)
    }

    fn operation(&self, event: &Event) -> Operation {
        let kv = event.kv.clone().unwrap_or_default();
        match event.r#type() {
            EventType::Put => self.put(&kv).into(),
            EventType::Delete => DeleteRangeRequest {
                key: self.renamed(&kv.key),
                ..DeleteRangeRequest::default()
            }
            .into(),
        }
    }

    fn put(&self, kv: &KeyValue) -> PutRequest {
        PutRequest {
            key: self.renamed(&kv.key),
            value: kv.value.clone(),
            ..PutRequest::default()
        }
    }

    fn renamed(&self, key: &Bytes) -> Bytes {
        match key.strip_prefix(self.prefix.as_ref()) {
            Some(rest) if self.prefix != self.dest_prefix => {
                [&self.dest_prefix, rest].concat().into()
            }
            _ => key.clone(),
        }
    }
}
