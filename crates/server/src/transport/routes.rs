//! From the path of a request to a method.

use std::collections::{HashMap, HashSet};

use super::{Code, Method, Service, Status};

/// The methods of one service table, by path.
#[derive(Debug)]
pub(super) struct Routes {
    methods: HashMap<&'static str, (usize, Method)>,
    services: HashSet<&'static str>,
}

impl Routes {
    pub(super) fn new(service: &dyn Service) -> Self {
        let methods = service.methods().iter().copied().enumerate();
        Self {
            services: service
                .methods()
                .iter()
                .map(|method| method.names().0)
                .collect(),
            methods: methods
                .map(|(index, method)| (method.path, (index, method)))
                .collect(),
        }
    }

    /// The method at `path` and its place in the table.
    ///
    /// # Errors
    /// Unimplemented with the text of the gRPC library. Source: grpc-go `server.go`, `handleStream`.
    pub(super) fn find(&self, path: &str) -> Result<(usize, Method), Status> {
        if let Some(found) = self.methods.get(path) {
            return Ok(*found);
        }
        let name = path.strip_prefix('/').unwrap_or(path);
        let text = match name.rsplit_once('/') {
            None => format!("malformed method name: {path:?}"),
            Some((service, method)) if self.services.contains(service) => {
                format!("unknown method {method} for service {service}")
            }
            Some((service, _)) => format!("unknown service {service}"),
        };
        Err(Status::new(Code::Unimplemented, text))
    }
}
