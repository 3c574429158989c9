//! HTTP/2, in the clear or over TLS, as far as a load generator needs it.
//!
//! A generator that costs more than the server measures itself, so nothing general is done here. The calls of a
//! connection go to one method or two: their headers are the same, and after the first call they are a handful of table
//! indexes encoded once. A request is those bytes, a frame header and a message that was encoded before the run. Of
//! what comes back the frame headers are read, messages are handed on where they lie, and of header blocks only the
//! gRPC status is kept.
//!
//! Not done, and refused with a clear error when met: padding, CONTINUATION frames, server push.
//!
//! Flow control towards the server is obeyed ([`Outbox::has_room`]). Towards us it is opened wide at once: a real
//! client that keeps reading is never the one that slows a server down.

mod frame;
mod hpack;
mod huffman;
mod inbox;
mod outbox;
mod wire;

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::endpoint::Endpoint;
pub(crate) use inbox::{CallEnd, Event};
pub(crate) use outbox::Outbox;
use wire::Wire;

/// How long a server may take to accept a connection and to send its settings.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection with the methods that it calls.
pub(crate) struct Connection {
    wire: Wire,
    inbox: inbox::Inbox,
    /// Where calls are made.
    pub(crate) outbox: Outbox,
}

impl Connection {
    /// Connects, and waits for the server's settings. `paths` are the methods, such as `/etcdserverpb.KV/Put`; calls
    /// name them by their place.
    pub(crate) fn open(endpoint: &Endpoint, paths: &[&str]) -> Result<Self> {
        let address = endpoint.address;
        let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
            .with_context(|| format!("connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        let wire = Wire::open(socket, endpoint.greeting()?)
            .with_context(|| format!("connect to {address}"))?;
        let mut connection = Self {
            wire,
            inbox: inbox::Inbox::default(),
            outbox: Outbox::new(paths, endpoint),
        };
        connection.flush()?;
        while !connection.inbox.has_settings() {
            connection
                .receive(|event, _| anyhow::bail!("{event:?} before any call"))
                .with_context(|| format!("greet {address}"))?;
        }
        connection.flush()?;
        connection.wire.socket.set_nonblocking(true)?;
        Ok(connection)
    }

    /// Makes one call and waits for its answer, which may take `at_most`.
    pub(crate) fn ask(
        endpoint: &Endpoint,
        path: &str,
        message: &[u8],
        at_most: Duration,
    ) -> Result<Vec<u8>> {
        let mut answer = None;
        Self::ask_stream(endpoint, path, message, at_most, |message| {
            answer = Some(message.to_vec());
            Ok(())
        })?;
        answer.with_context(|| format!("{path}: an answer without a message"))
    }

    /// Makes one call whose answer is a stream of messages, which are handed on as they come, each within `at_most`.
    pub(crate) fn ask_stream(
        endpoint: &Endpoint,
        path: &str,
        message: &[u8],
        at_most: Duration,
        mut on: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut connection = Self::open(endpoint, &[path])?;
        connection.wire.socket.set_nonblocking(false)?;
        connection.wire.socket.set_read_timeout(Some(at_most))?;
        connection.outbox.begin_long_answer(message);
        connection.flush()?;
        let mut end: Option<CallEnd> = None;
        let mut heard = Instant::now();
        while end.is_none() {
            let read = connection.receive(|event, _| {
                match event {
                    Event::Message { message, .. } => {
                        heard = Instant::now();
                        on(message)?;
                    }
                    Event::End { end: last, .. } => end = Some(last),
                    Event::Goodbye { .. } => {}
                }
                Ok(())
            });
            read.with_context(|| path.to_owned())?;
            // Window updates of a long answer, acknowledgements of pings.
            connection.flush()?;
            ensure!(
                end.is_some() || heard.elapsed() < at_most,
                "{path}: no answer within {at_most:?}"
            );
        }
        match end {
            Some(end) if end.code != 0 => bail!("{path}: code {}: {}", end.code, end.text),
            _ => Ok(()),
        }
    }

    /// For the poller.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.wire.socket
    }

    /// Writes what waits. Returns whether all of it is gone.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        loop {
            let unsent = self.outbox.unsent();
            let written = if unsent.is_empty() {
                self.wire.push().map(|()| None)
            } else {
                self.wire.write(unsent).map(Some)
            };
            match written {
                Ok(None) => return Ok(true),
                Ok(Some(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Some(written)) => self.outbox.sent(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once and hands what is whole to `on`, which may make further calls.
    pub(crate) fn receive(
        &mut self,
        mut on: impl FnMut(Event<'_>, &mut Outbox) -> Result<()>,
    ) -> Result<()> {
        loop {
            match self.wire.read(self.inbox.space()) {
                Ok(0) => anyhow::bail!("the server closed the connection"),
                Ok(read) => self.inbox.filled(read),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error).context("read from the server"),
            }
            self.inbox.parse(&mut self.outbox, &mut on)?;
            if !self.wire.has_unread() {
                return Ok(());
            }
        }
    }
}
