//! The way of the bytes: a socket, in the clear or over TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use rustls::ClientConnection;

pub(super) struct Wire {
    pub(super) socket: TcpStream,
    tls: Option<Box<Secured>>,
}

/// The client's part of TLS, with what it has decrypted and nobody has read.
struct Secured {
    machine: ClientConnection,
    unread_bytes: usize,
}

impl Wire {
    /// Over a socket that blocks; with TLS its hands are shaken before this returns.
    pub(super) fn open(mut socket: TcpStream, tls: Option<ClientConnection>) -> Result<Self> {
        let Some(mut machine) = tls else {
            return Ok(Self { socket, tls: None });
        };
        while machine.is_handshaking() {
            machine.complete_io(&mut socket).context("TLS")?;
        }
        ensure!(
            machine.alpn_protocol() == Some(b"h2"),
            "the server does not speak HTTP/2 over TLS"
        );
        // What came behind the handshake is in the machine already.
        let unread_bytes = machine.process_new_packets()?.plaintext_bytes_to_read();
        let secured = Secured {
            machine,
            unread_bytes,
        };
        Ok(Self {
            socket,
            tls: Some(Box::new(secured)),
        })
    }

    /// Whether something can be read that the socket no longer tells of.
    pub(super) fn has_unread(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.unread_bytes > 0)
    }

    /// Reads once. 0: the server has closed the connection.
    pub(super) fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.read(space);
        };
        while tls.unread_bytes == 0 {
            if tls.machine.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let state = tls.machine.process_new_packets();
            let state = state.map_err(io::Error::other)?;
            tls.unread_bytes = state.plaintext_bytes_to_read();
            if tls.unread_bytes == 0 && state.peer_has_closed() {
                return Ok(0);
            }
        }
        let read = tls.machine.reader().read(space)?;
        tls.unread_bytes -= read;
        Ok(read)
    }

    /// Takes some of these bytes. What TLS has taken may still have to be pushed out.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push()?;
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => tls.machine.writer().write(bytes),
        }
    }

    /// Writes what TLS holds back.
    pub(super) fn push(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.machine.wants_write() {
                tls.machine.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }
}
