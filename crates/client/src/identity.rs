//! Who the caller is: a user with a password, which buys tokens, or a token from elsewhere.
//!
//! A token is asked for before the first call and sent with every call. Members forget tokens
//! (they are restarted, tokens age, users change); a call that is refused for that was not
//! executed, so it is sent again with a new token. One task at a time asks for one, the others
//! wait for its result.
//!
//! Source: v3.7.1 `client/v3/client.go`, `getToken`; `client/v3/retry_interceptor.go`,
//! `shouldRefreshToken`.

use std::fmt;

use http::HeaderValue;
use tokio::sync::Mutex;

use crate::error::{AUTH_NOT_ENABLED, Code, INVALID_TOKEN, NO_USER, OLD_AUTH_REVISION, Status};

/// What a client shows of itself beside its certificate.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user of the cluster. The password is sent as it is: use TLS.
    Password {
        /// Name of the user.
        user: String,
        /// Password of the user.
        password: String,
    },
    /// A token that somebody else signed. It is never renewed.
    Token(String),
}

impl fmt::Debug for Credentials {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "Password of {user:?}"),
            Credentials::Token(_) => f.write_str("Token"),
        }
    }
}

/// The token in use.
#[derive(Clone, Debug, Default, PartialEq)]
enum Held {
    /// It has to be asked for.
    #[default]
    Nothing,
    /// The members do not ask who somebody is.
    NotNeeded,
    Token(HeaderValue),
}

/// The identity of a client and all its clones.
#[derive(Default)]
pub(crate) struct Identity {
    credentials: Option<Credentials>,
    /// Locked while a token is being asked for.
    held: Mutex<Held>,
}

impl Identity {
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self {
            credentials,
            held: Mutex::default(),
        }
    }

    /// The token for a call; none if it needs none. `buy` exchanges user and password for one.
    pub(crate) async fn token(
        &self,
        buy: impl AsyncFnOnce(&str, &str) -> Result<String, Status>,
    ) -> Result<Option<HeaderValue>, Status> {
        let (user, password) = match &self.credentials {
            None => return Ok(None),
            Some(Credentials::Token(token)) => return value(token).map(Some),
            Some(Credentials::Password { user, password }) => (user, password),
        };
        let mut held = self.held.lock().await;
        if *held == Held::Nothing {
            *held = match buy(user, password).await {
                Ok(token) => Held::Token(value(&token)?),
                Err(status) if status.message == AUTH_NOT_ENABLED => Held::NotNeeded,
                Err(status) => return Err(status),
            };
        }
        Ok(match &*held {
            Held::Token(token) => Some(token.clone()),
            Held::Nothing | Held::NotNeeded => None,
        })
    }

    /// Takes note that a call with this token was refused: whether it makes sense to send the call
    /// again.
    pub(crate) async fn is_worth_another(&self, used: Option<&HeaderValue>, refusal: &str) -> bool {
        match &self.credentials {
            // Users changed while a call of a certificate's bearer was under way.
            None => refusal == OLD_AUTH_REVISION,
            Some(Credentials::Token(_)) => false,
            Some(Credentials::Password { .. }) => {
                if ![INVALID_TOKEN, OLD_AUTH_REVISION, NO_USER].contains(&refusal) {
                    return false;
                }
                let mut held = self.held.lock().await;
                // Somebody else may have a new one already.
                let is_current = match &*held {
                    Held::Token(token) => Some(token) == used,
                    Held::NotNeeded => used.is_none(),
                    Held::Nothing => false,
                };
                if is_current {
                    *held = Held::Nothing;
                }
                true
            }
        }
    }
}

fn value(token: &str) -> Result<HeaderValue, Status> {
    let mut value = HeaderValue::from_str(token).map_err(|_| {
        Status::new(
            Code::UNAUTHENTICATED,
            "the token cannot be sent in a header",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(future)
    }

    fn user() -> Identity {
        Identity::new(Some(Credentials::Password {
            user: "root".to_owned(),
            password: "secret".to_owned(),
        }))
    }

    #[test]
    fn a_token_is_bought_once_and_again_when_it_is_refused() {
        run(async {
            let identity = user();
            let first = identity.token(async |_, _| Ok("one".to_owned())).await;
            let again = identity.token(async |_, _| Ok("two".to_owned())).await;
            assert_eq!(first, again);
            let used = first.expect("a token");
            assert!(
                !identity
                    .is_worth_another(used.as_ref(), "etcdserver: no leader")
                    .await
            );
            assert!(
                identity
                    .is_worth_another(used.as_ref(), INVALID_TOKEN)
                    .await
            );
            let next = identity.token(async |_, _| Ok("three".to_owned())).await;
            assert_eq!(next, Ok(Some(HeaderValue::from_static("three"))));
            // A call that was under way with the old one does not throw the new one away.
            assert!(
                identity
                    .is_worth_another(used.as_ref(), INVALID_TOKEN)
                    .await
            );
            let kept = identity.token(async |_, _| Ok("four".to_owned())).await;
            assert_eq!(kept, next);
        });
    }

    #[test]
    fn members_without_users_want_no_token_until_they_do() {
        run(async {
            let identity = user();
            let refuse = async |_: &str, _: &str| {
                Err(Status::new(Code::FAILED_PRECONDITION, AUTH_NOT_ENABLED))
            };
            assert_eq!(identity.token(refuse).await, Ok(None));
            assert!(identity.is_worth_another(None, NO_USER).await);
            let token = identity.token(async |_, _| Ok("one".to_owned())).await;
            assert_eq!(token, Ok(Some(HeaderValue::from_static("one"))));
        });
    }

    #[test]
    fn a_given_token_is_sent_as_it_is() {
        run(async {
            let identity = Identity::new(Some(Credentials::Token("jwt".to_owned())));
            let token = identity.token(async |_, _| Ok("bought".to_owned())).await;
            assert_eq!(token, Ok(Some(HeaderValue::from_static("jwt"))));
            assert!(!identity.is_worth_another(None, INVALID_TOKEN).await);
            let bad = Identity::new(Some(Credentials::Token("a\nb".to_owned())));
            assert!(bad.token(async |_, _| Ok(String::new())).await.is_err());
        });
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = user().credentials;
        assert_eq!(format!("{credentials:?}"), "Some(Password of \"root\")");
    }
}
