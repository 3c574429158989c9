//! Global flags and the environment, and the client and output form that follow from them.
//!
//! Each flag can come from `ETCDCTL_` and its name in capitals. Giving one both ways is an error:
//! nobody could tell which of them was meant.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/global.go`; `pkg/flags/flag.go`.

use std::time::Duration;

use kvorum_client::{Client, Config, Error};

use crate::failure;
use crate::output::{Format, Printer};
use kvorum_cli::Failure;
use kvorum_cli::failure::{BAD_ARGS, BAD_CONNECTION, BAD_FEATURE, ERROR, log};
use kvorum_cli::go;
use kvorum_cli::line::{Line, Value};

const PREFIX: &str = "ETCDCTL_";
/// Variables of the environment that are no flags, but known: they belong to `watch`.
const OF_WATCH: [&str; 2] = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];
/// Flags of things that are not there yet. They are refused, as going on without them could send
/// in plain text what was meant to be protected.
const NOT_THERE: [&str; 8] = [
    "cert",
    "key",
    "cacert",
    "user",
    "password",
    "auth-jwt-token",
    "discovery-srv",
    "discovery-srv-name",
];
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
    pub(crate) fn read(line: &mut Line, is_watch: bool) -> Result<Self, Failure> {
        environment(line, is_watch)?;
        if line.flag("debug") {
            show_flags(line);
        }
        refuse(line)?;
        let endpoints = line.list("endpoints");
        let mut config = Config::new(endpoints.iter().map(|endpoint| endpoint.trim()));
        config.dial_timeout = line.duration("dial-timeout");
        config.keep_alive_time = line.duration("keepalive-time");
        config.keep_alive_timeout = line.duration("keepalive-timeout");
        let limit = |name, default| match usize::try_from(line.int(name)) {
            Ok(0) | Err(_) => default,
            Ok(limit) => limit,
        };
        config.request_bytes_max = limit("max-request-bytes", config.request_bytes_max);
        config.response_bytes_max = limit("max-recv-bytes", config.response_bytes_max);
        let format = match line.text("write-out").as_str() {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return Err(Failure::new(BAD_FEATURE, "unsupported output format")),
        };
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
    /// Endpoints that cannot be used.
    pub(crate) fn patient_client(&self) -> Result<Client, Failure> {
        Client::new(&self.config).map_err(|error| match error {
            Error::NoEndpoints => failure::call(BAD_CONNECTION, &error),
            _ => failure::call(BAD_ARGS, &error),
        })
    }

    /// A client for all endpoints, with `--command-timeout`.
    ///
    /// # Errors
    /// Endpoints that cannot be used.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(self.patient_client()?.with_timeout(self.command_timeout))
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

fn refuse(line: &Line) -> Result<(), Failure> {
    for name in FILES {
        if line.is_given(name) && line.text(name).is_empty() {
            let text = format!("empty string is passed to --{name} option");
            return Err(Failure::arguments(text));
        }
    }
    for name in NOT_THERE {
        if !line.text(name).is_empty() {
            return Err(Failure::arguments(format!("--{name} is not supported yet")));
        }
    }
    if !line.flag("insecure-transport") {
        return Err(Failure::arguments(
            "--insecure-transport=false is not supported yet",
        ));
    }
    Ok(())
}
