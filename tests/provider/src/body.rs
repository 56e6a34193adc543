//! Bodies as they may come, and go: compressed, and as forms.

use std::borrow::Cow;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, header};
use ruzstd::decoding::StreamingDecoder;
use serde_json::{Map, Value};

/// The body without its content coding; none where that fails or isn't known.
pub(crate) fn decoded<'b>(headers: &HeaderMap, body: &'b [u8]) -> Option<Cow<'b, [u8]>> {
    let mut decoded = Vec::new();
    match headers.get(header::CONTENT_ENCODING).map(|coding| coding.as_bytes()) {
        None | Some(b"identity") => return Some(Cow::Borrowed(body)),
        Some(b"gzip") => GzDecoder::new(body).read_to_end(&mut decoded).ok()?,
        Some(b"zstd") => StreamingDecoder::new(body).ok()?.read_to_end(&mut decoded).ok()?,
        Some(_) => return None,
    };
    Some(Cow::Owned(decoded))
}

/// The boundary of a form's parts.
pub(crate) fn boundary(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let boundary = content_type.strip_prefix("multipart/form-data")?.split_once("boundary=")?.1;
    Some(boundary.trim_matches('"').to_owned())
}

/// A form's fields as a JSON object; a file is its length.
pub(crate) fn form(body: &[u8], boundary: &str) -> Option<Value> {
    let text: String = body.iter().map(|byte| char::from(*byte)).collect();
    let delimiter = format!("--{boundary}");
    let mut parts = text.split(&delimiter).skip(1);
    let mut fields = Map::new();
    loop {
        let part = parts.next()?;
        if part.starts_with("--") {
            return Some(Value::Object(fields));
        }
        let (head, content) = part.split_once("\r\n\r\n")?;
        let name = head.split_once(" name=\"")?.1.split('"').next()?;
        let content = content.strip_suffix("\r\n")?;
        let value = match head.contains("filename=") {
            true => Value::from(content.len()),
            false => Value::from(content),
        };
        fields.insert(name.to_owned(), value);
    }
}

/// An answer's body with the content coding gzip.
pub(crate) fn compressed(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory doesn't fail.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    Bytes::from(written.unwrap_or_default())
}
