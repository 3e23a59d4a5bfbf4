//! What the fuzzers of `fuzz/` run, here so that an ordinary test can replay their corpora.
//!
//! Each target takes any bytes, and panics when something that must hold does not.

use bytes::BytesMut;

use super::decoder::{DecodeContext, Decoder};
use super::message::{MAX_EXTENDED_MESSAGE, Message, Update, finish_message, message_type, put_header};
use super::pack::{EncodeContext, pack_announcement};
use super::types::{Family, FamilySet};

/// A stream of messages. The first octet chooses the context, the second how many octets arrive at once (0: all).
pub fn message_stream(data: &[u8]) {
    let [flags, at_once, stream @ ..] = data else { return };
    let at_once = match at_once {
        0 => stream.len().max(1),
        other => usize::from(*other),
    };
    let mut decoder = Decoder::new();
    decoder.set_context(context(*flags));
    for piece in stream.chunks(at_once) {
        decoder.push(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => check_message(&message),
                Ok(None) => break,
                Err(error) => {
                    let mut out = BytesMut::new();
                    Message::Notification(error.notification).encode(&mut out);
                    assert!(out.len() <= 4_096, "the NOTIFICATION is bounded");
                    return;
                }
            }
        }
        assert!(decoder.buffered() < MAX_EXTENDED_MESSAGE, "less than a message is kept");
    }
}

/// The body of one UPDATE. The first octet chooses the context.
pub fn update(data: &[u8]) {
    let [flags, body @ ..] = data else { return };
    let context = context(*flags);
    let mut message = BytesMut::new();
    put_header(&mut message, message_type::UPDATE);
    message.extend_from_slice(&body[..body.len().min(MAX_EXTENDED_MESSAGE - message.len())]);
    finish_message(&mut message, 0);
    if let Ok([Message::Update(update)]) = decode_all(context, &message).as_deref() {
        check_rewritten(context, update);
    }
}

fn context(flags: u8) -> DecodeContext {
    DecodeContext {
        four_octet_as: flags & 1 == 0,
        extended_message: flags & 2 == 0,
        families: FamilySet {
            ipv4_unicast: flags & 4 == 0,
            ipv6_unicast: flags & 8 == 0,
        },
        external: flags & 16 == 0,
    }
}

fn check_message(message: &Message) {
    assert!(!message.to_string().is_empty());
    if matches!(message, Message::Update(_)) {
        return;
    }
    let mut out = BytesMut::new();
    message.encode(&mut out);
    let mut decoder = Decoder::new();
    decoder.push(&out);
    let again = decoder.next_message().expect("what we write we can read");
    // NOTIFICATIONs longer than ours may be, and OPENs with more capabilities than fit ours, come back shorter.
    if out.len() < 4_000 {
        assert_eq!(again.as_ref(), Some(message));
    }
}

/// What was announced can be announced again and means the same.
fn check_rewritten(context: DecodeContext, update: &Update) {
    for announcement in &update.announced {
        assert!(!announcement.prefixes.is_empty());
        let family = Family::of(&announcement.prefixes[0]);
        let encode = EncodeContext {
            four_octet_as: context.four_octet_as,
            extended_message: context.extended_message,
        };
        let prefixes = announcement.prefixes.iter().copied();
        let mut out = BytesMut::new();
        pack_announcement(&mut out, encode, &announcement.attributes, family, prefixes);
        let messages = decode_all(context, &out).expect("what we write we can read");
        let mut count = 0;
        for message in &messages {
            let Message::Update(again) = message else {
                panic!("an UPDATE became {message}");
            };
            assert!(again.mended.is_empty(), "{again}");
            for again in &again.announced {
                assert_eq!(again.attributes, announcement.attributes);
                count += again.prefixes.len();
            }
            // A set that fits no message is withdrawn instead.
            count += again.withdrawn.len();
        }
        assert_eq!(count, announcement.prefixes.len());
    }
}

fn decode_all(context: DecodeContext, bytes: &[u8]) -> Result<Vec<Message>, super::error::MessageError> {
    let mut decoder = Decoder::new();
    decoder.set_context(context);
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.next_message().transpose()).collect()
}
