import Foundation

/// Why no answer comes, and what to do.
public enum AffectReaderError: LocalizedError {
    /// The package is not in the bundle.
    case packageMissing
    /// The package in the bundle is not the one that this kit was written for.
    case packageChanged(found: String)
    /// The package has other inputs or outputs than one of pocketaffect.
    case packageOfAnotherKind(String)
    /// A picture cannot be read.
    case pictureUnreadable(String)

    public var errorDescription: String? {
        switch self {
        case .packageMissing:
            return "PocketAffect.mlpackage is not in the bundle of PocketAffectKit."
        case .packageChanged(let found):
            return "PocketAffect.mlpackage has SHA-256 \(found); this kit was written for \(PackageFacts.sha256)."
        case .packageOfAnotherKind(let problem):
            return "PocketAffect.mlpackage is not the plain package that pocketaffect exports: \(problem)."
        case .pictureUnreadable(let problem):
            return "The picture cannot be read: \(problem)."
        }
    }

    public var recoverySuggestion: String? {
        switch self {
        case .packageMissing, .packageChanged, .packageOfAnotherKind:
            return "Write the kit again, whole, with pocketaffect kit MODEL DEST, and clean the build folder."
        case .pictureUnreadable:
            return "Ask the camera for kCVPixelFormatType_32BGRA, or pass a CGImage."
        }
    }
}
