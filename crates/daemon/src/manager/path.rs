//! A request path, taken apart once so that nobody later is fooled by `..`, `//`, `%2F` or control characters.

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("it has more than {MAX_SEGMENTS} segments")]
    TooLong,
    #[error("it has an empty segment")]
    EmptySegment,
    #[error("it has a segment `.` or `..`")]
    DotSegment,
    #[error("a segment has an encoded slash, a backslash or a control character")]
    ForbiddenCharacter,
    #[error("its percent-encoding is broken or is not UTF-8")]
    Encoding,
}

/// ARM ids have up to 16; our own paths carry one and a few more.
const MAX_SEGMENTS: usize = 32;

/// The segments of a path, decoded. Slashes at both ends don't count: clients join base addresses with and without one.
pub(crate) fn decode(path: &str) -> Result<Vec<String>, PathError> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let segments = path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
    match segments.len() {
        0..=MAX_SEGMENTS => Ok(segments),
        _ => Err(PathError::TooLong),
    }
}

fn segment(raw: &str) -> Result<String, PathError> {
    let bytes = percent_decode(raw).ok_or(PathError::Encoding)?;
    let text = String::from_utf8(bytes).map_err(|_| PathError::Encoding)?;
    match text.as_str() {
        "" => Err(PathError::EmptySegment),
        "." | ".." => Err(PathError::DotSegment),
        _ if text.contains(['/', '\\']) || text.contains(char::is_control) => Err(PathError::ForbiddenCharacter),
        _ => Ok(text),
    }
}

/// Decodes what can be decoded and leaves the rest.
pub(crate) fn decode_lossy(raw: &str) -> String {
    match percent_decode(raw) {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => raw.to_owned(),
    }
}

fn percent_decode(raw: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

/// For a value in a query.
pub(crate) fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = text.bytes().map(|byte| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Result<&[&str], PathError>) {
        let expected = expected.map(|segments| segments.iter().map(|s| s.to_string()).collect());
        assert_eq!(decode(path), expected, "{path}");
    }

    #[test]
    fn paths_come_apart_or_are_refused() {
        check("/", Ok(&[]));
        check("", Ok(&[]));
        check("//subscriptions/S/", Ok(&["subscriptions", "S"]));
        check("/a%20b/%C3%A4", Ok(&["a b", "ä"]));
        check("/a//b", Err(PathError::EmptySegment));
        check("/a/../b", Err(PathError::DotSegment));
        check("/a/%2e%2E/b", Err(PathError::DotSegment));
        check("/a%2fb", Err(PathError::ForbiddenCharacter));
        check("/a%5cb", Err(PathError::ForbiddenCharacter));
        check("/a%00", Err(PathError::ForbiddenCharacter));
        check("/a%0d%0a", Err(PathError::ForbiddenCharacter));
        check("/a%ff", Err(PathError::Encoding));
        check("/a%2", Err(PathError::Encoding));
        check("/a%+1", Err(PathError::Encoding));
        check(&"/a".repeat(33), Err(PathError::TooLong));
    }
}
