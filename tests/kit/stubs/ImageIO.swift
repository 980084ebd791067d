@_exported import CoreGraphics

public enum CGImagePropertyOrientation: UInt32, @unchecked Sendable {
    case up = 1
    case upMirrored, down, downMirrored, leftMirrored, right, rightMirrored, left
}
