//! Bodies of HTTP/1 messages, in both directions.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::{AnswerBody, BodyPieces};

/// A body that comes in.
#[derive(Debug)]
pub struct HttpBody(Incoming);

/// Why a body is not there as a whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("body is longer than {0} bytes")]
    TooLong(usize),
    /// The connection broke before its end.
    #[error("body ended early: {0}")]
    Broken(#[from] io::Error),
}

impl HttpBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self(body)
    }

    /// The next piece as it came; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or what came is no HTTP.
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(frame) = self.0.frame().await {
            let frame = frame.map_err(io::Error::other)?;
            // Anything else are trailers, which nobody needs.
            if let Ok(piece) = frame.into_data()
                && !piece.is_empty()
            {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// All of it, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn whole(mut self, bytes_max: usize) -> Result<Bytes, BodyError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > bytes_max {
                return Err(BodyError::TooLong(bytes_max));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// A body that goes out.
pub(super) struct OutgoingBody(Option<Source>);

enum Source {
    Whole(Bytes),
    Pieces(Box<dyn BodyPieces>),
}

impl OutgoingBody {
    pub(super) fn new(body: AnswerBody) -> Self {
        Self(match body {
            AnswerBody::Whole(bytes) if bytes.is_empty() => None,
            AnswerBody::Whole(bytes) => Some(Source::Whole(bytes)),
            AnswerBody::Pieces(pieces) => Some(Source::Pieces(pieces)),
        })
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if let Some(Source::Pieces(pieces)) = &mut this.0 {
            return match pieces.poll_piece(cx) {
                Poll::Ready(None) => {
                    this.0 = None;
                    Poll::Ready(None)
                }
                Poll::Ready(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                Poll::Pending => Poll::Pending,
            };
        }
        let Some(Source::Whole(bytes)) = this.0.take() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(Source::Whole(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Some(Source::Pieces(_)) => SizeHint::default(),
        }
    }
}
