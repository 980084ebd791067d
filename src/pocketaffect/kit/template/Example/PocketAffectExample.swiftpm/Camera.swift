import AVFoundation
import PocketAffectKit

/// The front camera: its frames go to one receiver, and none is kept.
final class Camera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    enum Problem: LocalizedError {
        case notAllowed, missing

        var errorDescription: String? {
            switch self {
            case .notAllowed: return "The camera is switched off for this app: allow it in Settings, under Privacy."
            case .missing: return "No front camera was found: run this on a device, not in the simulator."
            }
        }
    }

    let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "camera")
    private let receive: (CameraFrame) -> Void

    init(receive: @escaping (CameraFrame) -> Void) {
        self.receive = receive
    }

    func start() async throws {
        guard await AVCaptureDevice.requestAccess(for: .video) else { throw Problem.notAllowed }
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .front) else {
            throw Problem.missing
        }
        if session.inputs.isEmpty { try connect(device) }
        queue.async { self.session.startRunning() }
    }

    func stop() {
        queue.async { self.session.stopRunning() }
    }

    private func connect(_ device: AVCaptureDevice) throws {
        let (input, output) = (try AVCaptureDeviceInput(device: device), AVCaptureVideoDataOutput())
        output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(self, queue: queue)
        session.beginConfiguration()
        defer { session.commitConfiguration() }
        session.sessionPreset = .vga640x480
        guard session.canAddInput(input), session.canAddOutput(output) else { throw Problem.missing }
        session.addInput(input)
        session.addOutput(output)
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        // The front camera of a device that is held upright gives pictures that lie, as in a mirror.
        if let frame = CameraFrame(sampleBuffer, orientation: .leftMirrored) { receive(frame) }
    }
}
