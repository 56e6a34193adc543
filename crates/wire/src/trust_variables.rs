//! The environment variables by which clients find the CAs that they trust, for `quotakeeper run` and the injector.

/// Variables that name a file of CAs in PEM. All but Node's and Deno's replace the client's own roots, so the file
/// that they name must hold those too.
pub const CA_VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",                    // OpenSSL, Go, Ruby, .NET, httpx, aiohttp, reqwest
    "REQUESTS_CA_BUNDLE",               // requests
    "CURL_CA_BUNDLE",                   // curl, requests
    "NODE_EXTRA_CA_CERTS",              // Node
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", // gRPC core
    "GIT_SSL_CAINFO",                   // git
    "CARGO_HTTP_CAINFO",                // cargo
    "PIP_CERT",                         // pip
    "AWS_CA_BUNDLE",                    // AWS SDKs and command line
];

/// The variable that names a folder of hashed CAs. OpenSSL, Go and .NET read that of their system even where
/// `SSL_CERT_FILE` is set; rustls-native-certs (`CertPaths::from_env`) reads it only where this variable names it.
pub const CA_FOLDER_VARIABLE: &str = "SSL_CERT_DIR";
/// The folder where Debian, Alpine, Red Hat and SUSE have them, also those that are added to an image.
pub const SYSTEM_CA_FOLDER: &str = "/etc/ssl/certs";

/// The variable whose options every JVM takes; it prints them to standard error at its start.
pub const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";
/// The same for the launcher `java` of JDK 9 and later alone.
pub const JAVA_LAUNCHER_OPTIONS: &str = "JDK_JAVA_OPTIONS";
/// The system property that names a JVM's trust store (JSSE Reference Guide, "Customizing the Default Key Managers and
/// Trust Managers, …"). It replaces the JDK's own, `lib/security/cacerts`.
const JAVA_TRUST_STORE: &str = "-Djavax.net.ssl.trustStore=";

/// `options` with the trust store `file`; none where they name a trust store already.
pub fn with_java_trust_store(options: &str, file: &str) -> Option<String> {
    if options.contains(JAVA_TRUST_STORE) {
        return None;
    }
    let ours = format!("{JAVA_TRUST_STORE}{file}");
    let before = options.trim_end();
    Some(if before.is_empty() { ours } else { format!("{before} {ours}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_jvm_are_kept() {
        let with = |options| with_java_trust_store(options, "/f");
        assert_eq!(with("").as_deref(), Some("-Djavax.net.ssl.trustStore=/f"));
        assert_eq!(with("-Xmx1g ").as_deref(), Some("-Xmx1g -Djavax.net.ssl.trustStore=/f"));
        assert_eq!(with("-Djavax.net.ssl.trustStore=/own -Xmx1g"), None);
    }
}
