//! A name server that knows a few SRV records, and programs that ask it.
//!
//! A name server has one port everywhere, and the file that names it is the machine's. So each
//! program gets a view of the file system of its own, in which that file is another one.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::peers::skip;

/// Number of the record type for an address.
const A: u8 = 1;
/// Number of the record type SRV.
const SRV: u8 = 33;
/// Bytes of the head of a question or answer.
const HEAD_BYTES: usize = 12;

/// The words before a program's own that have it ask a name server of ours for SRV records: names
/// and the ports of this machine that they lead to. The server ends with the process. None, which
/// is then on record as a skip of `test`, where the machine does not allow it.
///
/// `address` is one of this machine that no other test uses.
///
/// # Panics
/// When the folder cannot be written.
pub fn start(
    test: &str,
    address: &str,
    folder: &Path,
    records: Vec<(String, Vec<u16>)>,
) -> Option<Vec<String>> {
    let allowed = Command::new("unshare").args(["--mount", "true"]).status();
    let socket = UdpSocket::bind((address, 53));
    let (Ok(socket), true) = (socket, allowed.is_ok_and(|it| it.success())) else {
        skip(test, "needs a mount namespace and port 53");
        return None;
    };
    thread::spawn(move || serve(&socket, &records));
    let file = folder.join("resolv.conf");
    fs::write(&file, format!("nameserver {address}\n")).expect("a file");
    let file = file.display();
    let script = format!("mount --bind {file} /etc/resolv.conf && exec \"$0\" \"$@\"");
    let words = ["unshare", "--mount", "sh", "-c", &script];
    Some(words.map(str::to_owned).to_vec())
}

/// Answers questions for these SRV records and for the address of `localhost`.
fn serve(socket: &UdpSocket, records: &[(String, Vec<u16>)]) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        let Some((name, kind, end)) = asked(&question[..length]) else {
            continue;
        };
        let ports = records
            .iter()
            .find(|(known, _)| kind == SRV && *known == name)
            .map_or(&[][..], |(_, ports)| ports);
        let is_local = name == "localhost";
        let mut entries = Vec::new();
        for port in ports {
            let mut entry = vec![0xc0, 12, 0, SRV, 0, 1, 0, 0, 0, 60, 0, 17, 0, 0, 0, 0];
            entry.extend(port.to_be_bytes());
            entry.extend(b"\x09localhost\0");
            entries.push(entry);
        }
        if is_local && kind == A {
            entries.push(vec![0xc0, 12, 0, A, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        // What follows the question (an extension of the client) is left out.
        let mut answer = question[..end].to_vec();
        answer[2] = 0x81;
        let is_known = is_local || !entries.is_empty();
        answer[3] = if is_known { 0x80 } else { 0x83 };
        answer[6..HEAD_BYTES].copy_from_slice(&[0, entries.len() as u8, 0, 0, 0, 0]);
        answer.extend(entries.concat());
        let _ = socket.send_to(&answer, from);
    }
}

/// The name in lower case and the record type that a question is about, and where it ends.
fn asked(question: &[u8]) -> Option<(String, u8, usize)> {
    let mut labels = Vec::new();
    let mut at = HEAD_BYTES;
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        let label = question.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += 1 + length;
    }
    let end = at + 5;
    let kind = *question.get(at + 2)?;
    (question.len() >= end).then(|| (labels.join("."), kind, end))
}
