//! `routewright az-env`: the lines that point an unmodified `az` at this server, ready for a shell.

use std::io::{self, Write};

use clap::Args;

use crate::client::ClientError;
use crate::resource::{Session, printed};
use crate::sp;
use crate::target::Target;

/// The service principal that recipes without another one sign in as.
const PRINCIPAL: &str = "az-env";

/// Arguments of `routewright az-env`.
#[derive(Debug, Args)]
pub(crate) struct AzEnvArgs {
    #[command(flatten)]
    target: Target,
    /// Sign in as this service principal, with the secret in $AZURE_CLIENT_SECRET. Without it, the one named `az-env` is made (or given
    /// another secret), as owner of the subscription.
    #[arg(long, value_name = "CLIENT-ID")]
    client_id: Option<String>,
}

pub(crate) async fn run(args: AzEnvArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let facts = session.client.get("/routewright/v1/sign-in").await?;
    let Some(url) = facts["url"].as_str() else {
        return Err(ClientError::Usage(format!(
            "{} serves no https, which az needs: start it with --tls-listen, for example `routewright serve --tls-listen 127.0.0.1:8443`",
            session.client.server()
        )));
    };
    let own = facts["certificateAuthority"].as_str().map(str::to_owned);
    let authority = session.target.ca().map(|path| path.display().to_string()).or(own);
    let credentials = match args.client_id {
        Some(id) => Credentials { id, secret: None },
        None => {
            let principal = sp::reset_or_create(&session.client, PRINCIPAL).await?;
            sp::assign(&session.client, &principal, "Owner", &session.target.subscription_id()).await?;
            let text = |name: &str| principal[name].as_str().unwrap_or_default().to_owned();
            Credentials {
                id: text("clientId"),
                secret: Some(text("secret")),
            }
        }
    };
    let recipe = recipe(
        url,
        authority.as_deref(),
        &credentials,
        facts["tenant"].as_str().unwrap_or_default(),
    )?;
    printed(io::stdout().lock().write_all(recipe.as_bytes()))
}

struct Credentials {
    id: String,
    /// `None`: in the environment of whoever pastes.
    secret: Option<String>,
}

fn recipe(url: &str, authority: Option<&str>, credentials: &Credentials, tenant: &str) -> Result<String, ClientError> {
    let place: String = url
        .trim_start_matches("https://")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    let mut lines = Vec::new();
    if let Some(authority) = authority {
        let authority = quoted(authority)?;
        lines.push(format!("export REQUESTS_CA_BUNDLE={authority}"));
        lines.push(format!("export NODE_EXTRA_CA_CERTS={authority}"));
    }
    lines.push("export AZURE_CORE_INSTANCE_DISCOVERY=false".to_owned());
    // Apart from a login to Azure itself, and from other servers.
    lines.push(format!("export AZURE_CONFIG_DIR=\"$HOME/.azure-routewright/{place}\""));
    lines.push(format!(
        "az cloud show -n routewright -o none 2>/dev/null || az cloud register -n routewright --endpoint-resource-manager {}",
        quoted(url)?
    ));
    lines.push("az cloud set -n routewright".to_owned());
    let secret = match &credentials.secret {
        Some(secret) => quoted(secret)?,
        None => "\"$AZURE_CLIENT_SECRET\"".to_owned(),
    };
    lines.push(format!(
        "az login --service-principal -u {} -p {secret} --tenant {} -o none",
        quoted(&credentials.id)?,
        quoted(tenant)?
    ));
    Ok(lines.join("\n") + "\n")
}

fn quoted(text: &str) -> Result<String, ClientError> {
    shlex::try_quote(text)
        .map(|quoted| quoted.into_owned())
        .map_err(|error| ClientError::Usage(format!("{text:?} cannot be written for a shell: {error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_survives_a_shell_whatever_is_in_its_paths() {
        let credentials = Credentials {
            id: "c1".to_owned(),
            secret: Some("s".to_owned()),
        };
        let authority = "/data/it's $HOME/ca.pem";
        let recipe = recipe("https://127.0.0.1:8443", Some(authority), &credentials, "t").unwrap();
        let script = format!("az() {{ printf '<%s>' \"$@\"; }}\n{recipe}printf '\\n%s' \"$REQUESTS_CA_BUNDLE\"");
        let ran = std::process::Command::new("sh")
            .args(["-eu", "-c", &script])
            .output()
            .unwrap();
        let told = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success());
        assert!(told.ends_with(authority), "{told}");
        assert!(
            told.contains("<login><--service-principal><-u><c1><-p><s><--tenant><t>"),
            "{told}"
        );
    }

    #[test]
    fn a_secret_that_is_not_given_is_left_to_the_environment() {
        let credentials = Credentials {
            id: "c1".to_owned(),
            secret: None,
        };
        let recipe = recipe("https://[::1]:8443", None, &credentials, "t").unwrap();
        assert!(recipe.contains("-p \"$AZURE_CLIENT_SECRET\""), "{recipe}");
        assert!(
            !recipe.contains("REQUESTS_CA_BUNDLE"),
            "the authority is one that everybody trusts"
        );
        assert!(recipe.contains(".azure-routewright/---1--8443"), "{recipe}");
    }
}
