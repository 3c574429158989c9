//! The state of a member on its way to a follower that fell behind.

use super::Peers;
use super::handler::{check_sender, empty};
use crate::api::http::reply;
use crate::transport::{HttpBody, HttpRequest, HttpResponse};

/// Takes a snapshot in: the message, then the state as etcd's database file.
pub(super) async fn receive(peers: &Peers, request: &HttpRequest, _body: HttpBody) -> HttpResponse {
    if request.method != "POST" {
        return reply::method_not_allowed("POST");
    }
    if let Err(refused) = check_sender(peers, request) {
        return refused;
    }
    empty(500)
}
