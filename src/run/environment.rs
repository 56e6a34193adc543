//! Variables for the command: base URLs, and exemptions from other proxies.

use std::net::IpAddr;

/// Base-URL variables without those that are set already: the user's values win, and are printed, because calls
/// that follow them are not limited.
pub fn without_own(variables: Vec<(String, String)>) -> (Vec<(String, String)>, Vec<String>) {
    let (own, ours): (Vec<_>, Vec<_>) = variables
        .into_iter()
        .partition(|(name, _)| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    (ours, own.into_iter().map(|(name, _)| name).collect())
}

/// If a forward proxy is configured: exemptions for the proxy's own address and the hosts that it intercepts.
pub fn past_other_proxies(proxy: IpAddr, hosts: &[String]) -> Vec<(String, String)> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let proxied = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    if !proxied.iter().any(|name| set(name).is_some()) {
        return Vec::new();
    }
    let mut exempt: Vec<String> = ["NO_PROXY", "no_proxy"].iter().filter_map(|name| set(name)).collect();
    exempt.push(proxy.to_string());
    if proxy.is_ipv6() {
        // Programs differ in what they compare: the address, or the host as it stands in the URL.
        exempt.push(format!("[{proxy}]"));
    }
    exempt.extend_from_slice(hosts);
    let exempt = exempt.join(",");
    ["NO_PROXY", "no_proxy"].iter().map(|name| ((*name).to_owned(), exempt.clone())).collect()
}
