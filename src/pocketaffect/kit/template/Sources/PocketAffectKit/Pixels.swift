#if canImport(CoreML) && canImport(Vision)
import AffectCore
import CoreGraphics
import CoreVideo
import ImageIO
import VideoToolbox

/// The bytes of a picture in sRGB, and where they lie.
///
/// Training read the bytes of JPEG files as they are, which are sRGB in nearly all.
struct Pixels {
    let grid: PixelGrid
    private let withBytes: ((UnsafeRawBufferPointer) -> [UInt8]) throws -> [UInt8]

    /// Cuts a square out of the upright picture: `size` rows of `size` pixels of red, green and blue.
    func cut(_ square: CropSquare, size: Int) throws -> [UInt8] {
        try withBytes { grid.cut(square, from: $0, size: size) }
    }

    /// Draws an image, in whatever colours it is, into sRGB.
    init(_ image: CGImage, orientation: CGImagePropertyOrientation) throws {
        guard image.width > 0, image.height > 0,
            let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: nil, width: image.width, height: image.height, bitsPerComponent: 8, bytesPerRow: 0, space: space,
                bitmapInfo: CGImageAlphaInfo.noneSkipFirst.rawValue | CGBitmapInfo.byteOrder32Little.rawValue
            )
        else { throw AffectReaderError.pictureUnreadable("no bitmap of \(image.width) x \(image.height) pixels") }
        context.draw(image, in: CGRect(x: 0, y: 0, width: image.width, height: image.height))
        guard let bytes = context.data else { throw AffectReaderError.pictureUnreadable("a bitmap without bytes") }
        grid = PixelGrid(
            width: image.width, height: image.height, format: .bgra, bytesPerRow: context.bytesPerRow,
            orientation: ImageOrientation(orientation)
        )
        let count = context.bytesPerRow * image.height
        withBytes = { use in
            // The context owns the bytes, and this closure the context.
            withExtendedLifetime(context) { use(UnsafeRawBufferPointer(start: bytes, count: count)) }
        }
    }

    /// Reads a buffer of BGRA in place; others, and those of a wide gamut, are drawn into sRGB first.
    init(_ buffer: CVPixelBuffer, orientation: CGImagePropertyOrientation) throws {
        let primaries = CVBufferCopyAttachment(buffer, kCVImageBufferColorPrimariesKey, nil) as? String
        let isNarrow = primaries == nil || primaries == kCVImageBufferColorPrimaries_ITU_R_709_2 as String
        guard CVPixelBufferGetPixelFormatType(buffer) == kCVPixelFormatType_32BGRA, isNarrow else {
            var image: CGImage?
            let status = VTCreateCGImageFromCVPixelBuffer(buffer, options: nil, imageOut: &image)
            guard let image else { throw AffectReaderError.pictureUnreadable("Video Toolbox says \(status)") }
            self = try Pixels(image, orientation: orientation)
            return
        }
        let (height, bytesPerRow) = (CVPixelBufferGetHeight(buffer), CVPixelBufferGetBytesPerRow(buffer))
        grid = PixelGrid(
            width: CVPixelBufferGetWidth(buffer), height: height, format: .bgra, bytesPerRow: bytesPerRow,
            orientation: ImageOrientation(orientation)
        )
        withBytes = { use in
            let status = CVPixelBufferLockBaseAddress(buffer, .readOnly)
            guard status == kCVReturnSuccess else {
                throw AffectReaderError.pictureUnreadable("Core Video says \(status)")
            }
            defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
            let start = CVPixelBufferGetBaseAddress(buffer)
            return use(UnsafeRawBufferPointer(start: start, count: start == nil ? 0 : bytesPerRow * height))
        }
    }
}

extension ImageOrientation {
    init(_ orientation: CGImagePropertyOrientation) {
        self = ImageOrientation(rawValue: Int(orientation.rawValue)) ?? .up
    }
}

/// Makes the network's input, which stays ours: BGRA, `size` pixels a side.
func makeInput(size: Int) throws -> CVPixelBuffer {
    var buffer: CVPixelBuffer?
    let attributes = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()] as CFDictionary
    let status = CVPixelBufferCreate(nil, size, size, kCVPixelFormatType_32BGRA, attributes, &buffer)
    guard let buffer else { throw AffectReaderError.pictureUnreadable("Core Video says \(status)") }
    return buffer
}

/// Writes rows of red, green and blue into a BGRA buffer of the same size.
func write(_ rgb: [UInt8], into buffer: CVPixelBuffer) throws {
    let status = CVPixelBufferLockBaseAddress(buffer, [])
    guard status == kCVReturnSuccess, let start = CVPixelBufferGetBaseAddress(buffer) else {
        throw AffectReaderError.pictureUnreadable("Core Video says \(status)")
    }
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    let (width, bytesPerRow) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetBytesPerRow(buffer))
    let bytes = start.assumingMemoryBound(to: UInt8.self)
    for pixel in 0..<rgb.count / 3 {
        let place = pixel / width * bytesPerRow + pixel % width * 4
        bytes[place] = rgb[3 * pixel + 2]
        bytes[place + 1] = rgb[3 * pixel + 1]
        bytes[place + 2] = rgb[3 * pixel]
        bytes[place + 3] = 255
    }
}
#endif
