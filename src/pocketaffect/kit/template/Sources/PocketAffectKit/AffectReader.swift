#if canImport(CoreML) && canImport(Vision)
import AffectCore
import CoreGraphics
import CoreML
import CoreVideo
import ImageIO
import Vision

/// One face of a picture, and what it shows.
public struct ReadFace: Sendable {
    /// In pixels of the upright picture.
    public let box: FaceBox
    /// Vision's confidence that this is a face, 0 to 1.
    public let detection: Double
    public let affect: Affect
    /// Whether the likeliest expression is less likely than the network can be believed at: say "unsure" then.
    public let isUnsure: Bool
    /// The face's number in its film; `nil` in a single picture.
    public let track: Int?
}

/// Finds the faces of pictures and reads expression, valence and arousal.
///
///     let reader = try await AffectReader()
///     let faces = try await reader.read(CameraFrame(pixelBuffer: buffer, orientation: .leftMirrored, seconds: time))
///
/// Nothing leaves the device, and no picture is kept.
public actor AffectReader {
    /// What the package says of itself.
    public nonisolated let facts: ModelFacts
    private let model: MLModel
    private let margin: Double
    private let mostFaces: Int
    private let input: CVPixelBuffer
    private var tracker = FaceTracker()
    private var smoother: Smoother

    /// Compiles the package, which takes a moment the first time, and loads it.
    ///
    /// - Parameters:
    ///   - margin: In place of the package's own crop margin, where Vision's boxes show more or less of the face than
    ///     those of the training data did.
    ///   - smoothing: Time constant of the smoothing over a film's frames, in seconds; 0 for none.
    ///   - mostFaces: Faces of a picture that are read at most, from the largest on.
    ///   - computeUnits: What Core ML may compute with.
    public init(
        margin: Double? = nil, smoothing: Double = 0.5, mostFaces: Int = 8, computeUnits: MLComputeUnits = .all
    ) async throws {
        let model = try await CompiledPackage.load(computeUnits: computeUnits)
        let description = model.modelDescription
        let facts = try ModelFacts(metadata: description.metadata[.creatorDefinedKey] as? [String: String] ?? [:])
        let constraint = description.inputDescriptionsByName["image"]?.imageConstraint
        guard constraint?.pixelsWide == facts.inputSize, constraint?.pixelsHigh == facts.inputSize else {
            throw AffectReaderError.packageOfAnotherKind("it has no input \"image\" of its input_size")
        }
        self.model = model
        self.facts = facts
        self.margin = margin ?? facts.cropMargin
        self.mostFaces = mostFaces
        input = try makeInput(size: facts.inputSize)
        smoother = Smoother(timeConstant: smoothing)
    }

    /// Reads the faces of a frame, largest first; none where no face was found.
    ///
    /// Frames that have a time are one film: faces are followed by their overlap, and their affects are smoothed.
    public func read(_ frame: CameraFrame) throws -> [ReadFace] {
        let handler = VNImageRequestHandler(cvPixelBuffer: frame.pixelBuffer, orientation: frame.orientation)
        let pixels = try Pixels(frame.pixelBuffer, orientation: frame.orientation)
        return try read(pixels, handler: handler, seconds: frame.seconds)
    }

    /// Reads the faces of a still picture, largest first.
    public func read(_ pixelBuffer: CVPixelBuffer, orientation: CGImagePropertyOrientation) throws -> [ReadFace] {
        try read(CameraFrame(pixelBuffer: pixelBuffer, orientation: orientation, seconds: nil))
    }

    /// Reads the faces of a still picture, largest first.
    public func read(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) throws -> [ReadFace] {
        let handler = VNImageRequestHandler(cgImage: image, orientation: orientation)
        return try read(Pixels(image, orientation: orientation), handler: handler, seconds: nil)
    }

    /// Reads a face that is cut out already: `inputSize` rows of `inputSize` pixels of red, green and blue.
    public func read(crop: [UInt8]) throws -> Affect {
        guard crop.count == 3 * facts.inputSize * facts.inputSize else {
            throw AffectReaderError.pictureUnreadable("\(crop.count) bytes, not 3 x \(facts.inputSize) x \(facts.inputSize)")
        }
        try write(crop, into: input)
        let features = try MLDictionaryFeatureProvider(dictionary: ["image": MLFeatureValue(pixelBuffer: input)])
        let outputs = try model.prediction(from: features)
        return facts.affect(
            probabilities: try numbers(of: outputs, under: "probabilities", count: FaceExpression.allCases.count),
            valenceArousal: try numbers(of: outputs, under: "valence_arousal", count: 2)
        )
    }

    /// Begins another film: the next frame's faces are new ones.
    public func startOver() {
        tracker = FaceTracker()
        smoother = Smoother(timeConstant: smoother.timeConstant)
    }

    private func read(_ pixels: Pixels, handler: VNImageRequestHandler, seconds: Double?) throws -> [ReadFace] {
        let request = VNDetectFaceRectanglesRequest()
        try handler.perform([request])
        let (width, height) = (pixels.grid.width, pixels.grid.height)
        let found = (request.results ?? [])
            .map { (box: FaceBox($0.boundingBox, imageWidth: width, imageHeight: height), seen: Double($0.confidence)) }
            .sorted { $0.box.area > $1.box.area }
            .prefix(mostFaces)
        let tracks = seconds.map { tracker.follow(found.map(\.box), at: $0) }
        return try found.enumerated().compactMap { place, face in
            let square = CropSquare(around: face.box, margin: margin, imageWidth: width, imageHeight: height)
            guard let square else { return nil }
            var affect = try read(crop: pixels.cut(square, size: facts.inputSize))
            let track = tracks?[place]
            if let track, let seconds { affect = smoother.smooth(affect, track: track, at: seconds) }
            let isUnsure = facts.isUnsure(affect)
            return ReadFace(box: face.box, detection: face.seen, affect: affect, isUnsure: isUnsure, track: track)
        }
    }

    private func numbers(of outputs: MLFeatureProvider, under name: String, count: Int) throws -> [Double] {
        guard let array = outputs.featureValue(for: name)?.multiArrayValue, array.count == count else {
            throw AffectReaderError.packageOfAnotherKind("it has no output \"\(name)\" of \(count) numbers")
        }
        return (0..<count).map { array[$0].doubleValue }
    }
}

extension FaceBox {
    init(_ normalized: CGRect, imageWidth: Int, imageHeight: Int) {
        self.init(
            normalizedX: Double(normalized.minX), normalizedY: Double(normalized.minY),
            normalizedWidth: Double(normalized.width), normalizedHeight: Double(normalized.height),
            imageWidth: imageWidth, imageHeight: imageHeight
        )
    }
}
#endif
