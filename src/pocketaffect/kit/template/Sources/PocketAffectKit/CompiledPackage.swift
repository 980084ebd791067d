#if canImport(CoreML) && canImport(Vision)
import AffectCore
import CoreML
import CryptoKit
import Foundation

/// The package of the bundle, compiled on the device once and kept under its digest.
enum CompiledPackage {
    static func load(computeUnits: MLComputeUnits) async throws -> MLModel {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        let (bundle, files) = (Bundle.module, FileManager.default)
        guard
            let package = bundle.url(forResource: "PocketAffect", withExtension: "mlpackage", subdirectory: "Model")
        else { throw AffectReaderError.packageMissing }
        let digest = SHA256.hash(data: try packageContent(at: package)).map { String(format: "%02x", $0) }.joined()
        guard digest == PackageFacts.sha256 else { throw AffectReaderError.packageChanged(found: digest) }

        let folder = try files.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
            .appendingPathComponent("PocketAffectKit", isDirectory: true)
        let kept = folder.appendingPathComponent("\(digest).mlmodelc", isDirectory: true)
        if files.fileExists(atPath: kept.path),
            let model = try? await MLModel.load(contentsOf: kept, configuration: configuration) {
            return model
        }
        // The first time, or the first after an update of the system that does not open what an older one compiled.
        let compiled = try await MLModel.compileModel(at: package)
        try files.createDirectory(at: folder, withIntermediateDirectories: true)
        try? files.removeItem(at: kept)
        // Where another reader was faster, its copy is as good.
        try? files.moveItem(at: compiled, to: kept)
        let place = files.fileExists(atPath: kept.path) ? kept : compiled
        return try await MLModel.load(contentsOf: place, configuration: configuration)
    }
}
#endif
