@_exported import CoreVideo

public final class CMSampleBuffer {
    private init() {}
}

public struct CMTime {
    public var seconds: Double { fatalError() }
}

public func CMSampleBufferGetImageBuffer(_ sbuf: CMSampleBuffer) -> CVImageBuffer? { fatalError() }
public func CMSampleBufferGetPresentationTimeStamp(_ sbuf: CMSampleBuffer) -> CMTime { fatalError() }
