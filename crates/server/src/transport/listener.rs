//! Binding of sockets.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::socket::Socket;
use super::{Address, HttpHandler, ListenerConfig, Service};

/// Connections that may wait to be accepted. The kernel cuts it to `net.core.somaxconn`, which is what Go uses.
const BACKLOG: u32 = 4096;

/// A bound socket. Connections wait in its backlog until a [`Server`](super::Server) accepts them.
pub struct Listener {
    bound: Bound,
    pub(super) config: ListenerConfig,
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Removes the file of a unix socket when the listener closes.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already; nothing depends on it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds the socket. A file left behind at a unix address is removed first. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Those of the operating system, and a host that does not resolve.
    pub fn bind(config: ListenerConfig) -> io::Result<Self> {
        let bound = match &config.address {
            Address::Tcp(address) => Bound::Tcp(bind_tcp(address, config.reuse_port)?),
            Address::Unix(path) => {
                remove_stale(path)?;
                Bound::Unix(UnixListener::bind(path)?, SocketFile(path.clone()))
            }
        };
        Ok(Self { bound, config })
    }

    /// Says what the socket offers from the start of the server on.
    pub fn offer(&mut self, service: Option<Arc<dyn Service>>, http: Option<Arc<dyn HttpHandler>>) {
        self.config.service = service;
        self.config.http = http;
    }

    /// The address bound, with the real port.
    #[must_use]
    pub fn local_address(&self) -> Address {
        match &self.bound {
            Bound::Tcp(listener) => match listener.local_addr() {
                Ok(address) => Address::Tcp(address.to_string()),
                Err(_) => self.config.address.clone(),
            },
            Bound::Unix(_, file) => Address::Unix(file.0.clone()),
        }
    }

    /// Waits for a connection; returns it with the address of the client.
    pub(super) async fn accept(&self) -> io::Result<(Socket, String)> {
        match &self.bound {
            Bound::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers leave in one write per turn; waiting for more would only delay them.
                stream.set_nodelay(true)?;
                Ok((Socket::Tcp(stream), address.to_string()))
            }
            Bound::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), "@".to_owned()))
            }
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Listener")
            .field("address", &self.local_address())
            .finish_non_exhaustive()
    }
}

/// A wildcard address takes IPv6 and IPv4 with one socket, as Go does; elsewhere IPv4 is preferred.
fn bind_tcp(address: &str, reuse_port: bool) -> io::Result<TcpListener> {
    // Go writes a wildcard host as nothing.
    let full = if address.starts_with(':') {
        format!("0.0.0.0{address}")
    } else {
        address.to_owned()
    };
    let resolved: Vec<SocketAddr> = full.to_socket_addrs()?.collect();
    let chosen = resolved
        .iter()
        .find(|found| found.is_ipv4())
        .or(resolved.first());
    let chosen = *chosen
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address for this host"))?;
    if chosen.ip().is_unspecified() {
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, chosen.port()));
        match bind_one(both, reuse_port) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse && chosen.is_ipv4() => {}
            other => return other,
        }
    }
    bind_one(chosen, reuse_port)
}

fn bind_one(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Always set, as Go does: a restart must not wait for old connections to time out.
    socket.set_reuseaddr(true)?;
    if reuse_port {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
