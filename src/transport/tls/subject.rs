//! The holder of a certificate. Only verified certificates are passed here.

use std::sync::Arc;
use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The most of a subject that is logged, in characters.
const MAX_LOGGED: usize = 256;

/// A certificate that a peer has shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The subject for the log: names may be cut, so it is not unique.
    pub subject: String,
    /// The exact holder.
    pub holder: Holder,
}

/// The holder of a certificate: its subject, which a renewed certificate keeps, or the whole
/// certificate if the subject is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder(Arc<[u8]>);

impl Holder {
    /// As bytes, which are unique for each holder.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Shown {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let parsed = EndEntityCert::try_from(certificate);
        let subject = parsed.as_ref().map_or(&[][..], |parsed| parsed.subject());
        let holder = if subject.is_empty() {
            certificate.as_ref()
        } else {
            subject
        };
        Self {
            subject: of(certificate),
            holder: Holder(holder.into()),
        }
    }
}

/// The subject, as `CN=alice, O=Example`; where there is none, the names the certificate is for.
fn of(certificate: &CertificateDer<'_>) -> String {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return "unreadable".to_owned();
    };
    let subject = show(certificate.subject());
    if !subject.is_empty() {
        return subject;
    }
    let names = certificate
        .valid_dns_names()
        .chain(certificate.valid_uri_names());
    let names: Vec<String> = names.map(printable).collect();
    match names.join(", ") {
        none if none.is_empty() => "without a name".to_owned(),
        names => names.chars().take(MAX_LOGGED).collect(),
    }
}

/// A distinguished name without its outer header.
fn show(mut name: &[u8]) -> String {
    let mut parts = Vec::new();
    while let Some((_, mut set)) = element(&mut name) {
        while let Some((_, mut pair)) = element(&mut set) {
            if let (Some((_, oid)), Some((_, value))) = (element(&mut pair), element(&mut pair)) {
                let value = printable(&String::from_utf8_lossy(value));
                parts.push(format!("{}={value}", attribute(oid)));
            }
        }
    }
    parts.join(", ").chars().take(MAX_LOGGED).collect()
}

/// Takes the next DER element: its tag and what is in it.
pub(super) fn element<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some((tag, content))
}

fn attribute(oid: &[u8]) -> String {
    let known = match oid {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 5] => "serialNumber",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        _ => return oid.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    known.to_owned()
}

/// What would look like more than one value is escaped, and so is what is no text.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for char in text.chars() {
        match char {
            ',' | '=' | '\\' => shown.extend(['\\', char]),
            char if char.is_control() => shown.extend(char.escape_default()),
            char => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SET { SEQUENCE { OID, UTF8String } }
    fn part(oid: &[u8], value: &str) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let pair = [wrap(6, oid), wrap(0x0c, value.as_bytes())].concat();
        wrap(0x31, &wrap(0x30, &pair))
    }

    #[test]
    fn a_subject_is_one_readable_line() {
        let name = [
            part(&[0x55, 4, 10], "Example\nOrg"),
            part(&[0x55, 4, 3], "al,i=ce"),
            part(&[0x2a, 3], "é"),
        ];
        assert_eq!(
            show(&name.concat()),
            "O=Example\\nOrg, CN=al\\,i\\=ce, 2a03=é"
        );
        assert_eq!(show(&part(&[0x55, 4, 3], &"x".repeat(100))).len(), 103);
    }

    #[test]
    fn what_is_cut_or_odd_is_left_out() {
        let whole = part(&[0x55, 4, 3], "alice");
        for end in 0..whole.len() {
            assert_eq!(show(&whole[..end]), "", "{end}");
        }
        for odd in [
            &[0x31, 0x80][..],
            &[0x31, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x31, 0x81],
            &[0x31, 2, 0x30, 5],
        ] {
            assert_eq!(show(odd), "");
        }
    }
}
