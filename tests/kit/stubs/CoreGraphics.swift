// Declarations of Apple's that AffectReader uses, as far as it uses them: enough to check types by, nothing to run.
@_exported import Foundation

// Core Foundation's types are bridged to these.
public typealias CFString = String
public typealias CFDictionary = [String: Any]
public typealias CFTypeRef = Any
public typealias CFAllocator = AnyObject
public typealias OSType = UInt32
public typealias OSStatus = Int32

public final class CGColorSpace {
    public static let sRGB: CFString = ""
    public init?(name: CFString) { nil }
}

public final class CGImage {
    private init() {}
    public var width: Int { fatalError() }
    public var height: Int { fatalError() }
}

public enum CGImageAlphaInfo: UInt32 {
    case none, premultipliedLast, premultipliedFirst, last, first, noneSkipLast, noneSkipFirst, alphaOnly
}

public struct CGBitmapInfo: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let byteOrder32Little = CGBitmapInfo(rawValue: 2 << 12)
}

public final class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) { nil }
    public var data: UnsafeMutableRawPointer? { fatalError() }
    public var bytesPerRow: Int { fatalError() }
    public func draw(_ image: CGImage, in rect: CGRect) {}
}
