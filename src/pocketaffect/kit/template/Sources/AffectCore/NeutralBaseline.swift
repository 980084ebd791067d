/// A person's neutral face, which their other faces are compared with.
///
/// Some faces look sad, or pleased, without being meant so: what a neutral face looked like counts for less.
public struct NeutralBaseline: Equatable, Codable, Sendable {
    /// How many times as likely as anything else "neutral" is on the neutral face itself, after the comparison.
    public static let least = 2.0

    /// What the network said of the neutral face.
    public let neutral: Affect

    public init(neutral: Affect) {
        self.neutral = neutral
    }

    /// The affect as it differs from the neutral face.
    public func compare(_ affect: Affect) -> Affect {
        let most = neutral[.neutral] / Self.least
        let weighed = FaceExpression.allCases.map { expression -> Double in
            let before = neutral[expression]
            return expression == .neutral || before <= most ? affect[expression] : affect[expression] * most / before
        }
        let sum = weighed.reduce(0, +)
        let clip = { (value: Double) in min(1, max(-1, value)) }
        return Affect(
            // Where nothing is left, as behind a neutral face of no neutrality at all, the answer stays as it was.
            probabilities: sum > 0 ? weighed.map { $0 / sum } : affect.probabilities,
            valence: clip(affect.valence - neutral.valence),
            arousal: clip(affect.arousal - neutral.arousal)
        )
    }
}
