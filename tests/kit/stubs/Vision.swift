@_exported import CoreVideo
@_exported import ImageIO

open class VNRequest {}

public final class VNFaceObservation {
    private init() {}
    public var boundingBox: CGRect { fatalError() }
    public var confidence: Float { fatalError() }
}

public final class VNDetectFaceRectanglesRequest: VNRequest {
    public override init() {}
    public var results: [VNFaceObservation]? { fatalError() }
}

public struct VNImageOption: Hashable, Sendable {}

public final class VNImageRequestHandler {
    public init(
        cvPixelBuffer: CVPixelBuffer, orientation: CGImagePropertyOrientation, options: [VNImageOption: Any] = [:]
    ) {}
    public init(cgImage: CGImage, orientation: CGImagePropertyOrientation, options: [VNImageOption: Any] = [:]) {}
    public func perform(_ requests: [VNRequest]) throws {}
}
