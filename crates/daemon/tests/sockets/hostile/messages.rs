//! Messages of BGP from parts, right and wrong ones.

use bgp::IpNet;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

/// A message of any type around a body.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xFF; 16];
    bytes.extend(((19 + body.len()) as u16).to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

pub(crate) fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// An OPEN with these capabilities (code and value), each in a parameter of its own.
pub(crate) fn open(asn: u32, hold_time_secs: u16, identifier: [u8; 4], capabilities: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut parameters = Vec::new();
    for (code, value) in capabilities {
        parameters.extend([2, value.len() as u8 + 2, *code, value.len() as u8]);
        parameters.extend(value);
    }
    let short = u16::try_from(asn).unwrap_or(23456);
    let mut body = vec![4];
    body.extend(short.to_be_bytes());
    body.extend(hold_time_secs.to_be_bytes());
    body.extend(identifier);
    body.push(parameters.len() as u8);
    body.extend(parameters);
    message(OPEN, &body)
}

/// What a usual router offers: both families and four-octet AS numbers.
pub(crate) fn usual_capabilities(asn: u32) -> Vec<(u8, Vec<u8>)> {
    vec![
        (1, vec![0, 1, 0, 1]),
        (1, vec![0, 2, 0, 1]),
        (65, asn.to_be_bytes().to_vec()),
    ]
}

/// An UPDATE of its three fields.
pub(crate) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(UPDATE, &body)
}

/// An attribute with the shortest header, or with the long one if its flags say so.
pub(crate) fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(value.len()) {
        Ok(length) if flags & 0x10 == 0 => vec![flags, code, length],
        _ => {
            let [high, low] = (value.len() as u16).to_be_bytes();
            vec![flags | 0x10, code, high, low]
        }
    };
    bytes.extend(value);
    bytes
}

/// ORIGIN, AS_PATH of the sender alone, NEXT_HOP.
pub(crate) fn good_attributes(asn: u32, next_hop: [u8; 4]) -> Vec<Vec<u8>> {
    vec![
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &as_path([asn])),
        attribute(0x40, 3, &next_hop),
    ]
}

/// The value of an AS_PATH of one AS_SEQUENCE after the other, each of at most 255 numbers.
pub(crate) fn as_path(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let numbers: Vec<u32> = numbers.into_iter().collect();
    let segment = |segment: &[u32]| {
        let octets = segment.iter().flat_map(|number| number.to_be_bytes());
        [2, segment.len() as u8].into_iter().chain(octets).collect::<Vec<_>>()
    };
    numbers.chunks(255).flat_map(segment).collect()
}

/// IPv4 prefixes as they stand in an UPDATE.
pub(crate) fn nlri(prefixes: impl IntoIterator<Item = IpNet>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for prefix in prefixes {
        let IpNet::V4(prefix) = prefix else { panic!("IPv4 only") };
        let octets = usize::from(prefix.prefix_len().div_ceil(8));
        bytes.push(prefix.prefix_len());
        bytes.extend(&prefix.network().octets()[..octets]);
    }
    bytes
}
