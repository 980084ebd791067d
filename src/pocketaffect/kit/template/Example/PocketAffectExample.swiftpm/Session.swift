import AffectCore
import Foundation
import PocketAffectKit
import SwiftUI

/// From the camera's frames to what the screen shows.
@MainActor
final class Session: ObservableObject {
    @Published private(set) var affect: Affect?
    @Published private(set) var isUnsure = false
    @Published private(set) var trail: [Affect] = []
    @Published private(set) var songs: [Song] = []
    @Published private(set) var warning: String?
    @Published private(set) var problem: String?
    @Published private(set) var baseline: NeutralBaseline?

    private(set) lazy var camera = Camera { [frames] in frames.yield($0) }
    private let frames: AsyncStream<CameraFrame>.Continuation
    private let stream: AsyncStream<CameraFrame>
    private var read: Affect?
    private var heard: Set<String> = []
    private let ratings = Ratings()

    init() {
        var continuation: AsyncStream<CameraFrame>.Continuation?
        // While one frame is read, only the newest waits.
        stream = AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation = $0 }
        frames = continuation!
    }

    /// Reads frame by frame until the screen's task is cancelled.
    func run() async {
        do {
            let reader = try await AffectReader(mostFaces: 1)
            warning = reader.facts.isTrainedOnDrawings ? "Trained on drawings alone: no good for photographs." : nil
            try await camera.start()
            defer { camera.stop() }
            for await frame in stream { show(try await reader.read(frame).first, by: reader.facts) }
        } catch {
            let todo = (error as? LocalizedError)?.recoverySuggestion
            problem = [error.localizedDescription, todo].compactMap { $0 }.joined(separator: " ")
        }
    }

    private func show(_ face: ReadFace?, by facts: ModelFacts) {
        read = face?.affect
        affect = face.map { baseline?.compare($0.affect) ?? $0.affect }
        isUnsure = affect.map(facts.isUnsure) ?? false
        trail = affect.map { Array(trail.suffix(40)) + [$0] } ?? []
    }

    /// Chooses five songs for the face as it is now.
    func suggest() {
        guard let affect else { return }
        do {
            songs = try SongCatalogue.bundled().suggest(for: affect, recent: heard)
            heard.formUnion(songs.map(\.id))
        } catch {
            problem = error.localizedDescription
        }
    }

    /// Takes the face as it is now for the neutral one, or forgets it.
    func toggleNeutral() {
        baseline = baseline == nil ? read.map(NeutralBaseline.init) : nil
    }

    func rate(_ song: Song, stars: Int) {
        guard let affect else { return }
        do {
            try ratings.add(Rating(song: song.id, stars: stars, affect: affect, date: Date()))
        } catch {
            problem = error.localizedDescription
        }
    }
}
