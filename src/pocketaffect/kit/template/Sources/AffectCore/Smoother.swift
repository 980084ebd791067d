import Foundation

/// An exponential filter for each track: `y += (1 - exp(-dt / timeConstant)) (x - y)`, from `y = x` on.
///
/// Answers of single frames flicker. The share depends on the time that passed, so that frame rate and skipped frames
/// do not change how fast it is: a change has come through by 63 % after one time constant, by 95 % after three.
public struct Smoother: Sendable {
    /// In seconds; 0 leaves affects as they are.
    public let timeConstant: Double
    private var last: [Int: (seconds: Double, affect: Affect)] = [:]

    public init(timeConstant: Double = 0.5) {
        self.timeConstant = timeConstant
    }

    /// Filters the affects of a track whose newest one is `affect`.
    public mutating func smooth(_ affect: Affect, track: Int, at seconds: Double) -> Affect {
        // A track that was unseen for so long does not come back: FaceTracker makes it another.
        last = last.filter { seconds - $0.value.seconds <= FaceTracker.longestGap }
        var smoothed = affect
        if timeConstant > 0, let before = last[track] {
            let share = 1 - exp(-max(0, seconds - before.seconds) / timeConstant)
            smoothed = before.affect.combined(with: affect) { $0 + share * ($1 - $0) }
        }
        last[track] = (seconds, smoothed)
        return smoothed
    }
}
