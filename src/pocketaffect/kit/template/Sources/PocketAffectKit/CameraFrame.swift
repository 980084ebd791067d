#if canImport(CoreML) && canImport(Vision)
import AffectCore
import CoreMedia
import CoreVideo
import ImageIO

/// One picture of a camera or a film.
///
/// It may cross to the reader's actor, since a camera writes into no buffer that it has given away.
public struct CameraFrame: @unchecked Sendable {
    public let pixelBuffer: CVPixelBuffer
    /// How the buffer has to be turned; a phone's front camera, held upright, gives `.leftMirrored`.
    public let orientation: CGImagePropertyOrientation
    /// The picture's time; `nil` for a picture that belongs to no film.
    public let seconds: Double?

    public init(pixelBuffer: CVPixelBuffer, orientation: CGImagePropertyOrientation, seconds: Double?) {
        self.pixelBuffer = pixelBuffer
        self.orientation = orientation
        self.seconds = seconds
    }

    /// Takes picture and time from what a capture session gives; `nil` where it holds no picture.
    public init?(_ sample: CMSampleBuffer, orientation: CGImagePropertyOrientation) {
        guard let pixelBuffer = CMSampleBufferGetImageBuffer(sample) else { return nil }
        let time = CMSampleBufferGetPresentationTimeStamp(sample)
        self.init(pixelBuffer: pixelBuffer, orientation: orientation, seconds: time.seconds)
    }
}
#endif
