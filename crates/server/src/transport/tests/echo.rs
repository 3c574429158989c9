//! A service whose calls do what their test needs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes};

use crate::transport::{Body, Call, Code, Credit, Method, MethodKind, ReplySink};
use crate::transport::{RequestStream, Service, Status, StreamSink};

const METHODS: [Method; 9] = [
    method("/test.Echo/Echo", MethodKind::Unary),
    method("/test.Echo/Thread", MethodKind::Unary),
    method("/test.Echo/Hold", MethodKind::Unary),
    method("/test.Echo/Drop", MethodKind::Unary),
    method("/test.Echo/Large", MethodKind::Unary),
    method("/test.Echo/Here", MethodKind::Unary),
    method("/test.Echo/Bidi", MethodKind::Bidi),
    method("/test.Echo/Flood", MethodKind::ServerStream),
    method("/test.Echo/Greedy", MethodKind::Bidi),
];

const fn method(path: &'static str, kind: MethodKind) -> Method {
    Method { path, kind }
}

/// Message size of `Flood`.
pub(super) const FLOOD_MESSAGE_BYTES: usize = 10_000;

/// Message size of `Here`, whose answers are made in the turn of their request.
pub(super) const HERE_BYTES: usize = 1 << 20;

/// What the tests look at.
#[derive(Default)]
pub(in crate::transport) struct Seen {
    /// Sinks of `Hold`, in order.
    pub(super) held: Mutex<Vec<(Call, ReplySink)>>,
    /// Credits of `Greedy`.
    pub(super) credits: Mutex<Vec<Credit>>,
    /// Bytes that `Flood` has sent.
    pub(super) flooded: AtomicUsize,
    /// Answers that `Here` has made.
    pub(super) ran_here: AtomicUsize,
    pub(super) room_calls: AtomicUsize,
    pub(super) finished: AtomicUsize,
    pub(super) closed: AtomicUsize,
}

/// Echoes in several ways; `Thread` answers from a thread of its own.
pub(in crate::transport) struct Echo {
    pub(in crate::transport) seen: Arc<Seen>,
    thread: mpsc::Sender<(Bytes, ReplySink)>,
}

impl Echo {
    pub(in crate::transport) fn new() -> Self {
        let (thread, requests) = mpsc::channel::<(Bytes, ReplySink)>();
        std::thread::spawn(move || {
            for (message, reply) in requests {
                reply.send(Ok(Body::from_encoded(message)));
            }
        });
        Self {
            seen: Arc::default(),
            thread,
        }
    }
}

impl Service for Echo {
    fn methods(&self) -> &[Method] {
        &METHODS
    }

    fn unary(&self, call: Call, message: Bytes, reply: ReplySink) {
        match call.method.names().1 {
            "Echo" if call.metadata.text("fail").is_some() => {
                reply.send(Err(Status::new(Code::Unavailable, "etcdserver: 100% gone")));
            }
            "Echo" => reply.send(Ok(Body::from_encoded(message))),
            "Thread" => self.thread.send((message, reply)).unwrap(),
            "Hold" => self.seen.held.lock().unwrap().push((call, reply)),
            "Large" => {
                let length: usize = std::str::from_utf8(&message).unwrap().parse().unwrap();
                reply.run(move || Ok(Body::encode(length, |buffer| buffer.put_bytes(7, length))));
            }
            "Here" => {
                let seen = Arc::clone(&self.seen);
                reply.run_here(move || {
                    seen.ran_here.fetch_add(1, Ordering::SeqCst);
                    Ok(Body::encode(HERE_BYTES, |buffer| {
                        buffer.put_bytes(7, HERE_BYTES);
                    }))
                });
            }
            _ => drop(reply),
        }
    }

    fn stream(&self, call: Call, replies: StreamSink) -> Box<dyn RequestStream> {
        let mut stream = EchoStream {
            name: call.method.names().1,
            seen: Arc::clone(&self.seen),
            replies,
        };
        if stream.name == "Flood" {
            stream.flood();
        }
        Box::new(stream)
    }
}

struct EchoStream {
    name: &'static str,
    seen: Arc<Seen>,
    replies: StreamSink,
}

impl EchoStream {
    fn flood(&mut self) {
        while !self.replies.room().is_empty() {
            let body = Body::encode(FLOOD_MESSAGE_BYTES, |buffer| {
                buffer.put_bytes(1, FLOOD_MESSAGE_BYTES);
            });
            self.replies.send(body);
            self.seen
                .flooded
                .fetch_add(FLOOD_MESSAGE_BYTES, Ordering::SeqCst);
        }
    }
}

impl RequestStream for EchoStream {
    fn message(&mut self, message: Bytes, credit: Credit) {
        match self.name {
            "Greedy" => self.seen.credits.lock().unwrap().push(credit),
            "Bidi" if message == "fail" => {
                self.replies
                    .finish(Err(Status::new(Code::OutOfRange, "told to fail")));
            }
            "Bidi" => self.replies.send(Body::from_encoded(message)),
            _ => {}
        }
    }

    fn finished(&mut self) {
        self.seen.finished.fetch_add(1, Ordering::SeqCst);
        if self.name == "Bidi" {
            self.replies.finish(Ok(()));
        }
    }

    fn room(&mut self) {
        self.seen.room_calls.fetch_add(1, Ordering::SeqCst);
        self.flood();
    }

    fn closed(&mut self) {
        assert!(self.replies.is_closed());
        self.seen.closed.fetch_add(1, Ordering::SeqCst);
    }
}
