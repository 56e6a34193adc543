//! "Did you mean …?" for a mistyped name.

/// How alike two names must be, from 0 to 1, for one to be suggested for the other.
const ALIKE: f64 = 0.75;

/// ` (did you mean …?)` with the nearest of `known`, or nothing where none is near. Of a name with a
/// namespace, the last part alone may be what was meant.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let written = written.to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        let last = name.rsplit('/').next().unwrap_or(&name);
        strsim::jaro_winkler(&written, &name).max(strsim::jaro_winkler(&written, last))
    };
    known
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_none_that_is_far() {
        let fields = ["windowSeconds", "amount", "countedAs"];
        assert_eq!(did_you_mean("windowSecs", fields), " (did you mean `windowSeconds`?)");
        assert_eq!(did_you_mean("Amount", fields), " (did you mean `amount`?)");
        assert_eq!(did_you_mean("zzz", fields), "");
        assert_eq!(did_you_mean("hubspt", ["platform/hubspot"]), " (did you mean `platform/hubspot`?)");
    }
}
