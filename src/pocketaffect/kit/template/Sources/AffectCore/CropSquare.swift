/// The upright square of a picture that the network is shown, in whole pixels. It may leave the picture.
public struct CropSquare: Equatable, Codable, Sendable {
    public let left: Int
    public let top: Int
    public let side: Int

    public init(left: Int, top: Int, side: Int) {
        self.left = left
        self.top = top
        self.side = side
    }

    /// Places the square around a face.
    ///
    /// It has the box's centre, and the box's longer side, which `margin` times itself is added to at each end.
    /// Halves of a pixel are rounded to the even neighbour, as everywhere in pocketaffect.
    ///
    /// - Returns: `nil` where the square does not touch the picture, or the box is no box.
    public init?(around box: FaceBox, margin: Double, imageWidth: Int, imageHeight: Int) {
        // From 2 pixels on, a square whose centre lies on the picture also shares pixels with it.
        let side = max(2, (max(box.width, box.height) * (1 + 2 * margin)).rounded(.toNearestOrEven))
        let left = (box.x + box.width / 2 - side / 2).rounded(.toNearestOrEven)
        let top = (box.y + box.height / 2 - side / 2).rounded(.toNearestOrEven)
        guard left < Double(imageWidth), top < Double(imageHeight), left + side > 0, top + side > 0,
            let wholeLeft = Int(exactly: left), let wholeTop = Int(exactly: top), let wholeSide = Int(exactly: side)
        else { return nil }
        self.init(left: wholeLeft, top: wholeTop, side: wholeSide)
    }
}
