//! Amounts as Kubernetes writes them: `250m`, `64Mi`, `1.5`, `1e3`.

/// Suffixes and what each stands for.
const SUFFIXES: [(&str, f64); 15] = [
    ("", 1.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
];

/// An amount as a number: in cores, in bytes. None: it is no amount, or below zero. Near enough to compare amounts of
/// containers, which have fewer digits than a double.
pub(crate) fn read(text: &str) -> Option<f64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let known = SUFFIXES.iter().find(|(known, _)| *known == suffix).map(|(_, factor)| number * factor);
    // As the API server may write what others gave it: 1e3.
    let exponent = || suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok();
    known.or_else(|| exponent().map(|exponent| number * 10f64.powi(exponent)))
}

/// Whether the first amount is more than the second. What can't be read is no more than anything.
pub(crate) fn is_more(first: &str, second: &str) -> bool {
    matches!((read(first), read(second)), (Some(first), Some(second)) if first > second)
}

/// The amount, or the bound that it is beyond.
pub(crate) fn between(amount: String, min: Option<&String>, max: Option<&String>) -> String {
    let least = min.filter(|min| is_more(min, &amount));
    let most = max.filter(|max| is_more(&amount, max));
    most.or(least).cloned().unwrap_or(amount)
}

/// Whether a limit is more than `ratio` times the request.
pub(crate) fn exceeds_ratio(limit: &str, request: &str, ratio: &str) -> bool {
    match (read(limit), read(request), read(ratio)) {
        (Some(limit), Some(request), Some(ratio)) => limit > request * ratio,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_writes_them() {
        for (text, value) in [
            ("0", 0.0),
            ("250m", 0.25),
            ("1.5", 1.5),
            ("64Mi", 67_108_864.0),
            ("1k", 1000.0),
            ("1e3", 1000.0),
            ("2E", 2e18),
            (".5Gi", 536_870_912.0),
        ] {
            assert_eq!(read(text), Some(value), "{text}");
        }
        for text in ["", "lots", "-1", "1GB", "1.2.3", "1e", "0x10"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(is_more("1", "999m") && !is_more("1Gi", "1024Mi") && !is_more("lots", "1"));
    }
}
