/// How a stored picture has to be turned to be upright; the raw values are EXIF's and `CGImagePropertyOrientation`'s.
public enum ImageOrientation: Int, CaseIterable, Sendable {
    case up = 1
    case upMirrored, down, downMirrored, leftMirrored, right, rightMirrored, left
}

/// The order of a pixel's bytes in memory.
public enum PixelFormat: Sendable {
    /// Red, green, blue.
    case rgb
    /// Blue, green, red and a fourth byte that is not looked at: `kCVPixelFormatType_32BGRA`.
    case bgra
}

/// Where the pixels of a picture lie in memory when it is seen upright.
///
/// Turning a picture is no work: another pixel comes first, and the steps to the next column and row change.
public struct PixelGrid: Sendable {
    /// Columns of the upright picture.
    public let width: Int
    /// Rows of the upright picture.
    public let height: Int
    private let format: PixelFormat
    private let first: Int
    private let columnStep: Int
    private let rowStep: Int
    private let neededBytes: Int

    /// - Parameters:
    ///   - width: Columns as stored.
    ///   - height: Rows as stored.
    ///   - bytesPerRow: Bytes from a stored row to the next; `nil` where no byte lies between them.
    ///   - orientation: How the stored picture has to be turned.
    public init(
        width: Int, height: Int, format: PixelFormat, bytesPerRow: Int? = nil, orientation: ImageOrientation = .up
    ) {
        precondition(width > 0 && height > 0, "a picture of \(width) x \(height) has no pixels")
        let pixel = format == .rgb ? 3 : 4
        let row = bytesPerRow ?? width * pixel
        precondition(row >= width * pixel, "\(row) bytes are too few for a row of \(width) pixels")
        let (toRight, toBottom) = ((width - 1) * pixel, (height - 1) * row)
        switch orientation {
        case .up: (first, columnStep, rowStep) = (0, pixel, row)
        case .upMirrored: (first, columnStep, rowStep) = (toRight, -pixel, row)
        case .down: (first, columnStep, rowStep) = (toRight + toBottom, -pixel, -row)
        case .downMirrored: (first, columnStep, rowStep) = (toBottom, pixel, -row)
        case .leftMirrored: (first, columnStep, rowStep) = (0, row, pixel)
        case .right: (first, columnStep, rowStep) = (toBottom, -row, pixel)
        case .rightMirrored: (first, columnStep, rowStep) = (toRight + toBottom, -row, -pixel)
        case .left: (first, columnStep, rowStep) = (toRight, row, -pixel)
        }
        self.format = format
        let lies = orientation.rawValue >= ImageOrientation.leftMirrored.rawValue
        (self.width, self.height) = lies ? (height, width) : (width, height)
        neededBytes = toBottom + toRight + pixel
    }

    /// Cuts a square out and resizes it, as training did.
    ///
    /// Shrinking averages over areas, enlarging is bilinear, and the picture's border pixels go on outside of it.
    ///
    /// - Parameters:
    ///   - square: In pixels of the upright picture.
    ///   - pixels: The stored picture.
    ///   - size: Pixels a side of the result.
    /// - Returns: `size` rows of `size` pixels of red, green and blue.
    public func cut(_ square: CropSquare, from pixels: UnsafeRawBufferPointer, size: Int) -> [UInt8] {
        precondition(pixels.count >= neededBytes, "\(pixels.count) bytes of pixels, where \(neededBytes) are needed")
        precondition(size > 0 && square.side > 0, "a square of no pixels")
        let columns = makeTaps(from: square.left, side: square.side, to: size, within: width)
        let rows = makeTaps(from: square.top, side: square.side, to: size, within: height)
        // Each row of the picture becomes narrow once, then the narrow rows are mixed.
        let top = rows.map(\.first).min() ?? 0
        let bottom = rows.map(\.end).max() ?? 0
        let narrow = (top..<bottom).map { shrinkRow($0, of: pixels, by: columns) }
        var result = [UInt8]()
        result.reserveCapacity(3 * size * size)
        for row in rows {
            var sums = [Float](repeating: 0.5, count: 3 * size)
            for (offset, weight) in row.weights.enumerated() {
                let source = narrow[row.first + offset - top]
                for place in sums.indices { sums[place] += weight * source[place] }
            }
            result.append(contentsOf: sums.lazy.map { UInt8(min(255, max(0, $0))) })
        }
        return result
    }

    /// Does as the other `cut`, from an array of bytes.
    public func cut(_ square: CropSquare, from pixels: [UInt8], size: Int) -> [UInt8] {
        pixels.withUnsafeBytes { cut(square, from: $0, size: size) }
    }

    private func shrinkRow(_ row: Int, of pixels: UnsafeRawBufferPointer, by columns: [Taps]) -> [Float] {
        let (red, blue) = format == .rgb ? (0, 2) : (2, 0)
        var result = [Float]()
        result.reserveCapacity(3 * columns.count)
        for column in columns {
            var sums: (red: Float, green: Float, blue: Float) = (0, 0, 0)
            var place = first + row * rowStep + column.first * columnStep
            for weight in column.weights {
                sums.red += weight * Float(pixels[place + red])
                sums.green += weight * Float(pixels[place + 1])
                sums.blue += weight * Float(pixels[place + blue])
                place += columnStep
            }
            result += [sums.red, sums.green, sums.blue]
        }
        return result
    }
}

/// The neighbouring source pixels that one target pixel is made of, along one axis.
private struct Taps {
    let first: Int
    var weights: [Float]
    var end: Int { first + weights.count }
}

/// For each of `size` target pixels, the pixels of the picture's `length` that it is made of.
private func makeTaps(from start: Int, side: Int, to size: Int, within length: Int) -> [Taps] {
    let step = Double(side) / Double(size)
    let clamp = { (index: Int) in min(length - 1, max(0, index)) }
    return (0..<size).map { place in
        if side < size {
            let centre = (Double(place) + 0.5) * step - 0.5
            let low = Int(centre.rounded(.down))
            let share = Float(centre - Double(low))
            let one = clamp(start + max(0, low))
            let other = clamp(start + min(side - 1, low + 1))
            return Taps(first: one, weights: one == other ? [1] : [1 - share, share])
        }
        let from = Double(start) + Double(place) * step
        let to = from + step
        // The outermost pixels stand for all that lies beyond them.
        let low = clamp(Int(from.rounded(.down)))
        let high = max(low, clamp(Int((to - 1e-9).rounded(.up)) - 1))
        let weights = (low...high).map { index -> Float in
            let begin = index == 0 ? from : max(from, Double(index))
            let end = index == length - 1 ? to : min(to, Double(index + 1))
            return Float(max(0, end - begin) / step)
        }
        return Taps(first: low, weights: weights)
    }
}
