@_exported import CoreVideo

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine
}

public final class MLModelConfiguration {
    public init() {}
    public var computeUnits = MLComputeUnits.all
}

public struct MLModelMetadataKey: Hashable, Sendable {
    public static let creatorDefinedKey = MLModelMetadataKey()
}

public final class MLImageConstraint {
    private init() {}
    public var pixelsWide: Int { fatalError() }
    public var pixelsHigh: Int { fatalError() }
}

public final class MLFeatureDescription {
    private init() {}
    public var imageConstraint: MLImageConstraint? { fatalError() }
}

public final class MLModelDescription {
    private init() {}
    public var inputDescriptionsByName: [String: MLFeatureDescription] { fatalError() }
    public var metadata: [MLModelMetadataKey: Any] { fatalError() }
}

public final class MLMultiArray {
    private init() {}
    public var count: Int { fatalError() }
    public subscript(index: Int) -> NSNumber { fatalError() }
}

public final class MLFeatureValue {
    public init(pixelBuffer: CVPixelBuffer) {}
    public var multiArrayValue: MLMultiArray? { fatalError() }
}

public protocol MLFeatureProvider {
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    public init(dictionary: [String: Any]) throws {}
    public func featureValue(for featureName: String) -> MLFeatureValue? { fatalError() }
}

public final class MLModel: @unchecked Sendable {
    private init() {}
    public static func compileModel(at modelURL: URL) async throws -> URL { fatalError() }
    public static func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel { fatalError() }
    public var modelDescription: MLModelDescription { fatalError() }
    public func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider { fatalError() }
}
