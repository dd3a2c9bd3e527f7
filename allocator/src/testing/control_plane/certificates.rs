//! A certificate authority of one test, and what it signs. Keys live in the test's own directory.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// The authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// Files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, PKCS 8, readable by the owner only.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority that writes into `directory`.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self {
            issuer,
            directory: directory.to_owned(),
        };
        fs::write(authority.certificate(), authority.issuer.pem())?;
        write_secret(&authority.key(), &authority.issuer.key().serialize_pem())?;
        Ok(authority)
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// The authority's key (the controller-manager signs with it).
    pub fn key(&self) -> PathBuf {
        self.directory.join("ca.key")
    }

    /// A server's certificate for these names and addresses.
    pub fn server(&self, file: &str, names: &[&str]) -> anyhow::Result<Pair> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, file);
        self.sign(file, params)
    }

    /// A client's certificate: the apiserver takes the common name for the user, the organization
    /// for the group.
    pub fn client(&self, file: &str, user: &str, group: &str) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, user);
        if !group.is_empty() {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        self.sign(file, params)
    }

    fn sign(&self, file: &str, mut params: CertificateParams) -> anyhow::Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = Pair {
            certificate: self.directory.join(format!("{file}.crt")),
            key: self.directory.join(format!("{file}.key")),
        };
        fs::write(&pair.certificate, certificate.pem())?;
        write_secret(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

/// A key without a certificate, for service-account tokens.
pub(super) fn signing_key(directory: &Path) -> anyhow::Result<SigningKey> {
    let key = KeyPair::generate()?;
    let files = SigningKey {
        private: directory.join("service-account.key"),
        public: directory.join("service-account.pub"),
    };
    write_secret(&files.private, &key.serialize_pem())?;
    fs::write(&files.public, key.public_key_pem())?;
    Ok(files)
}

/// Files of a signing key.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// PEM, PKCS 8.
    pub private: PathBuf,
    /// PEM.
    pub public: PathBuf,
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
