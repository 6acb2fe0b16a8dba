//! Asking upstream resolvers: a socket of its own for each question, so that who wants to forge an answer
//! has to guess port and id (RFC 5452, 9.2), and TCP for what does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::message::UDP_MAX;

/// How long one resolver has.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often all of them are asked.
const ROUNDS: usize = 2;

/// Asks one after the other; the first that answers is believed, unless it says that it failed.
pub(super) async fn ask(
    upstreams: &[SocketAddr],
    name: &Name,
    kind: RecordType,
) -> Option<Message> {
    let mut failed = None;
    for _ in 0..ROUNDS {
        for upstream in upstreams {
            let answer = timeout(PATIENCE, ask_one(*upstream, name, kind)).await;
            if let Ok(Ok(message)) = answer {
                if super::is_negative(message.metadata.response_code) {
                    return Some(message);
                }
                failed = Some(message);
            }
        }
        if failed.is_some() {
            break;
        }
    }
    failed
}

async fn ask_one(upstream: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Message> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut message = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(u16::try_from(UDP_MAX).unwrap_or(512));
    message.edns = Some(edns);
    let octets = message.to_vec().map_err(io::Error::other)?;
    let answer = over_udp(upstream, &message, &octets).await?;
    if answer.metadata.truncation {
        return over_tcp(upstream, &message, &octets).await;
    }
    Ok(answer)
}

async fn over_udp(upstream: SocketAddr, question: &Message, octets: &[u8]) -> io::Result<Message> {
    let any = match upstream.ip() {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(octets).await?;
    let mut answer = [0; 4096];
    loop {
        let length = socket.recv(&mut answer).await?;
        // What is not the answer may be a forgery: the real one may still come.
        if let Some(message) = read(answer.get(..length).unwrap_or(&[]), question) {
            return Ok(message);
        }
    }
}

async fn over_tcp(upstream: SocketAddr, question: &Message, octets: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(octets.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes(), octets].concat())
        .await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    read(&answer, question).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads an answer to this very question.
fn read(octets: &[u8], question: &Message) -> Option<Message> {
    let message = Message::from_vec(octets).ok()?;
    let is_ours = message.metadata.id == question.metadata.id
        && message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Query
        && message.queries == question.queries;
    is_ours.then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_another_question_is_none() {
        let name = |text| Name::from_ascii(text).unwrap();
        let mut question = Message::new(7, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(name("a.example."), RecordType::A));
        let answer = |change: &dyn Fn(&mut Message)| {
            let mut message = Message::new(7, MessageType::Response, OpCode::Query);
            message.add_query(Query::query(name("a.example."), RecordType::A));
            change(&mut message);
            read(&message.to_vec().unwrap(), &question).is_some()
        };
        assert!(answer(&|_| {}));
        assert!(!answer(&|message| message.metadata.id = 8));
        assert!(!answer(
            &|message| message.metadata.message_type = MessageType::Query
        ));
        assert!(!answer(&|message| message.queries.clear()));
        assert!(!answer(
            &|message| message.queries = vec![Query::query(name("b.example."), RecordType::A)]
        ));
        assert!(!answer(
            &|message| message.queries = vec![Query::query(name("a.example."), RecordType::AAAA)]
        ));
    }
}
