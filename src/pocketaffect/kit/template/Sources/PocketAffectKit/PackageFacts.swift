/// The package that this kit was written for: `pocketaffect kit` fills these in.
public enum PackageFacts {
    /// SHA-256 over the package's file names, lengths and contents.
    public static let sha256 = "{{PACKAGE_SHA256}}"
    /// The registered version's number; `nil` where the model is none.
    public static let version: String? = {{MODEL_VERSION}}
}
