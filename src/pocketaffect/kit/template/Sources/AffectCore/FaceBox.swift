/// A face's box in pixels of the upright picture: upper left corner, then sides.
public struct FaceBox: Equatable, Codable, Sendable {
    public var x: Double
    public var y: Double
    public var width: Double
    public var height: Double

    public init(x: Double, y: Double, width: Double, height: Double) {
        self.x = x
        self.y = y
        self.width = width
        self.height = height
    }

    /// Makes a box from one of Vision's, which are shares of the upright picture's sides, counted from its lower left.
    public init(
        normalizedX: Double, normalizedY: Double, normalizedWidth: Double, normalizedHeight: Double,
        imageWidth: Int, imageHeight: Int
    ) {
        let (wide, high) = (Double(imageWidth), Double(imageHeight))
        x = normalizedX * wide
        y = (1 - normalizedY - normalizedHeight) * high
        width = normalizedWidth * wide
        height = normalizedHeight * high
    }

    /// The box's area in square pixels.
    public var area: Double { width * height }

    /// The common area of two boxes as a share of their union, 0 to 1.
    public func overlap(with other: FaceBox) -> Double {
        let wide = min(x + width, other.x + other.width) - max(x, other.x)
        let high = min(y + height, other.y + other.height) - max(y, other.y)
        let common = max(0, wide) * max(0, high)
        let union = area + other.area - common
        return union > 0 ? common / union : 0
    }
}
