//! Global flags and the environment, and the client and output form that follow from them.
//!
//! Each flag can come from `ETCDCTL_` and its name in capitals. Giving one both ways is an error:
//! nobody could tell which of them was meant.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/global.go`; `pkg/flags/flag.go`.

use std::path::PathBuf;
use std::time::Duration;

use kvorum_client::{Client, Config, Credentials, Error, Tls, TlsOptions, discover};

use crate::failure::{self, failed};
use crate::output::{Format, Printer};
use crate::password::ask;
use kvorum_cli::Failure;
use kvorum_cli::failure::{BAD_ARGS, BAD_CONNECTION, BAD_FEATURE, ERROR, log};
use kvorum_cli::go;
use kvorum_cli::line::{Line, Value};

const PREFIX: &str = "ETCDCTL_";
/// Variables of the environment that are no flags, but known: they belong to `watch`.
const OF_WATCH: [&str; 2] = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];
/// Flags that take a file name, of which an empty one is an error of its own.
const FILES: [&str; 3] = ["cert", "key", "cacert"];

/// What every command that speaks with a server needs.
#[derive(Clone)]
pub(crate) struct Settings {
    config: Config,
    command_timeout: Duration,
    pub(crate) printer: Printer,
}

impl Settings {
    /// Reads environment and flags.
    ///
    /// # Errors
    /// A conflict, a flag that is not supported, an unknown output format.
    pub(crate) async fn read(line: &mut Line, is_watch: bool) -> Result<Self, Failure> {
        environment(line, is_watch)?;
        if line.flag("debug") {
            show_flags(line);
        }
        let mut config = Config::new(endpoints(line).await?);
        config.dial_timeout = line.duration("dial-timeout");
        config.keep_alive_time = line.duration("keepalive-time");
        config.keep_alive_timeout = line.duration("keepalive-timeout");
        let limit = |name, default| match usize::try_from(line.int(name)) {
            Ok(0) | Err(_) => default,
            Ok(limit) => limit,
        };
        config.request_bytes_max = limit("max-request-bytes", config.request_bytes_max);
        config.response_bytes_max = limit("max-recv-bytes", config.response_bytes_max);
        let secure = Secure::read(line)?;
        config.credentials = credentials(line).await?;
        let format = match line.text("write-out").as_str() {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return Err(Failure::new(BAD_FEATURE, "unsupported output format")),
        };
        // Of two mistakes that of the output form is told first.
        config.tls = secure.tls()?;
        Ok(Self {
            config,
            command_timeout: line.duration("command-timeout"),
            printer: Printer {
                format,
                hex: line.flag("hex"),
                values_only: false,
            },
        })
    }

    /// The endpoints as they were given.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.config.endpoints
    }

    /// A client for all endpoints, whose calls wait as long as it takes.
    ///
    /// # Errors
    /// Endpoints that cannot be used, a user whom the server does not let in.
    pub(crate) async fn patient_client(&self) -> Result<Client, Failure> {
        connect(&self.config).await
    }

    /// A client for all endpoints, with `--command-timeout`.
    ///
    /// # Errors
    /// As [`Settings::patient_client`].
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let client = self.patient_client().await?;
        Ok(client.with_timeout(self.command_timeout))
    }

    /// A client for another cluster, reached in the same way but for what these say.
    ///
    /// # Errors
    /// As [`Settings::patient_client`], and files that cannot be used.
    pub(crate) async fn client_for(
        &self,
        endpoint: &str,
        secure: &Secure,
        credentials: Option<Credentials>,
    ) -> Result<Client, Failure> {
        let config = Config {
            endpoints: vec![endpoint.to_owned()],
            tls: secure.tls()?,
            credentials,
            ..self.config.clone()
        };
        connect(&config).await
    }

    /// How to reach the servers.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// `--command-timeout`.
    pub(crate) fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// The same settings for one endpoint.
    pub(crate) fn for_endpoint(&self, endpoint: &str) -> Self {
        let mut settings = self.clone();
        settings.config.endpoints = vec![endpoint.to_owned()];
        settings
    }
}

fn variable(flag: &str) -> String {
    PREFIX.to_owned() + &flag.to_uppercase().replace('-', "_")
}

fn environment(line: &mut Line, is_watch: bool) -> Result<(), Failure> {
    let mut known: Vec<String> = Vec::new();
    let mut shadowed = Vec::new();
    for flag in line.known().to_vec() {
        let name = variable(flag.name);
        let value = std::env::var(&name).unwrap_or_default();
        if line.is_given(flag.name) {
            shadowed.push(name);
            continue;
        }
        known.push(name.clone());
        if value.is_empty() {
            continue;
        }
        if let Err(error) = line.take(flag, &value) {
            let fields = [
                ("environment-variable", name.as_str()),
                ("error", error.as_str()),
            ];
            log(
                "warn",
                "invalid value of environment variable is ignored",
                &fields,
            );
        }
    }
    for (name, value) in std::env::vars_os() {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        if !name.starts_with(PREFIX) || known.iter().any(|known| *known == name) {
            continue;
        }
        if shadowed.iter().any(|shadowed| *shadowed == name) {
            let message = "conflicting environment variable is shadowed by corresponding command-line flag \
                           (either unset environment variable or disable flag))";
            log("fatal", message, &[("environment-variable", &name)]);
            return Err(Failure::silent(ERROR));
        }
        if !(is_watch && OF_WATCH.contains(&&*name)) {
            let variable = format!("{name}={value}");
            log(
                "warn",
                "unrecognized environment variable",
                &[("environment-variable", &variable)],
            );
        }
    }
    Ok(())
}

/// `--debug` shows every flag with its value.
fn show_flags(line: &Line) {
    let mut flags = line.known().to_vec();
    flags.sort_by_key(|flag| flag.name);
    for flag in flags.iter().filter(|flag| {
        crate::commands::GLOBAL
            .iter()
            .any(|global| global.name == flag.name)
    }) {
        let value = match line.value(flag.name) {
            Value::Bool(value) => value.to_string(),
            Value::Text(value) => value,
            Value::List(value) => format!("[{}]", value.join(",")),
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => value.to_string(),
            Value::Duration(value) => go::duration(value),
        };
        eprintln!("{}={value}", variable(flag.name));
    }
}

/// The endpoints that were given, or found by `--discovery-srv`.
async fn endpoints(line: &Line) -> Result<Vec<String>, Failure> {
    let domain = line.text("discovery-srv");
    if !domain.is_empty() {
        let service = line.text("discovery-srv-name");
        let found = discover(&domain, &service).await.map_err(failed)?;
        let (used, ignored): (Vec<String>, Vec<String>) = found
            .into_iter()
            .partition(|endpoint| is_accepted(endpoint, line.flag("insecure-discovery")));
        for endpoint in ignored {
            let endpoint = go::quote(endpoint.as_bytes());
            eprintln!("ignoring discovered insecure endpoint {endpoint}");
        }
        if !used.is_empty() {
            return Ok(used);
        }
    }
    let given = line.list("endpoints");
    Ok(given
        .iter()
        .map(|endpoint| endpoint.trim().to_owned())
        .collect())
}

fn is_accepted(endpoint: &str, insecure: bool) -> bool {
    insecure || !endpoint.starts_with("http://")
}

async fn connect(config: &Config) -> Result<Client, Failure> {
    let client = Client::new(config).map_err(|error| match error {
        Error::NoEndpoints => failure::call(BAD_CONNECTION, &error),
        _ => failure::call(BAD_ARGS, &error),
    })?;
    let known = client
        .with_timeout(config.dial_timeout)
        .authenticate()
        .await;
    known.map_err(|error| failure::call(BAD_CONNECTION, &error))?;
    Ok(client)
}

/// What the flags say about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secure {
    pub(crate) options: TlsOptions,
    /// Plain text is allowed where nothing else is said.
    pub(crate) insecure: bool,
}

impl Secure {
    fn read(line: &Line) -> Result<Self, Failure> {
        for name in FILES {
            if line.is_given(name) && line.text(name).is_empty() {
                let text = format!("empty string is passed to --{name} option");
                return Err(Failure::arguments(text));
            }
        }
        let domain = line.text("discovery-srv");
        let by_domain = !domain.is_empty() && !line.flag("insecure-discovery");
        Ok(Self {
            options: TlsOptions {
                ca_file: file(line, "cacert"),
                cert_file: file(line, "cert"),
                key_file: file(line, "key"),
                server_name: by_domain.then_some(domain),
                skip_verify: line.flag("insecure-skip-tls-verify"),
            },
            insecure: line.flag("insecure-transport"),
        })
    }

    /// The configuration that follows; none if nothing asks for TLS.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, Failure> {
        let options = &self.options;
        let files = [&options.ca_file, &options.cert_file, &options.key_file];
        let wanted = files.iter().any(|file| file.is_some())
            || options.server_name.is_some()
            || options.skip_verify
            || !self.insecure;
        if !wanted {
            return Ok(None);
        }
        let tls = Tls::new(options);
        tls.map(Some)
            .map_err(|error| failure::call(BAD_ARGS, &error))
    }
}

/// A flag that names a file; none if it was not given.
pub(crate) fn file(line: &Line, name: &str) -> Option<PathBuf> {
    Some(line.text(name))
        .filter(|file| !file.is_empty())
        .map(PathBuf::from)
}

async fn credentials(line: &Line) -> Result<Option<Credentials>, Failure> {
    let token = line.text("auth-jwt-token");
    if !token.is_empty() {
        return Ok(Some(Credentials::Token(token)));
    }
    user(&line.text("user"), &line.text("password"), "Password: ").await
}

/// A user and the password: from its own flag, behind a colon, or asked for.
pub(crate) async fn user(
    user: &str,
    password: &str,
    prompt: &str,
) -> Result<Option<Credentials>, Failure> {
    if user.is_empty() {
        return Ok(None);
    }
    let (user, password) = match user.split_once(':') {
        _ if !password.is_empty() => (user, password.to_owned()),
        Some((user, password)) => (user, password.to_owned()),
        None => (user, ask(prompt).await.map_err(Failure::error)?),
    };
    // Without a password there is nothing that could be shown.
    Ok((!password.is_empty()).then(|| Credentials::Password {
        user: user.to_owned(),
        password,
    }))
}
