//! What the command sees that others don't: variables, and files in the place of the system's.

use quotakeeper_proxy::Proxy;
use quotakeeper_wire::headroom;

use super::environment;
use super::interception::Interception;
use super::mounts::Replacement;
use super::trust::TrustedFiles;
use crate::output::say;

/// The command's own view; its files are removed when this is dropped.
pub struct View {
    /// Variables on top of this process's environment.
    pub environment: Vec<(String, String)>,
    /// Files that are seen in the place of the system's.
    pub replacements: Vec<Replacement>,
    _trusted: TrustedFiles,
}

impl View {
    /// Of a command beside this proxy.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn new(
        proxy: &Proxy,
        interception: Option<&Interception>,
        command: &[String],
    ) -> anyhow::Result<View> {
        let trusted = interception.map(|_| TrustedFiles::new(proxy, command)).transpose()?;
        let mut trusted = trusted.unwrap_or_default();
        let replacements = interception.map(Interception::replacements).transpose()?;
        let mut replacements = replacements.unwrap_or_default();
        replacements.append(&mut trusted.replacements);
        let environment = child_environment(proxy, interception, std::mem::take(&mut trusted.variables));
        Ok(View { environment, replacements, _trusted: trusted })
    }
}

/// The variables that the command gets on top of this process's environment.
fn child_environment(
    proxy: &Proxy,
    interception: Option<&Interception>,
    trust: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let (mut variables, own) = environment::without_own(proxy.environment());
    for name in own {
        say(&format!("{name} is set already and stays as it is: calls that follow it are not limited"));
    }
    variables.push((headroom::VARIABLE.to_owned(), proxy.headroom_url()));
    variables.extend(trust);
    let names = interception.map(Interception::names).unwrap_or_default();
    variables.extend(environment::past_other_proxies(proxy.base_url_addr().ip(), names));
    variables
}
