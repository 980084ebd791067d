/// The eight expressions, in the order that pocketaffect keeps everywhere.
public enum FaceExpression: String, CaseIterable, Codable, Sendable {
    case neutral, happiness, sadness, surprise, fear, disgust, anger, contempt
}

/// What one face shows.
public struct Affect: Equatable, Codable, Sendable {
    /// The probability of each expression, in the order of `FaceExpression.allCases`.
    public var probabilities: [Double]
    /// -1 (unpleasant) to 1 (pleasant); a network may leave this range a little.
    public var valence: Double
    /// -1 (calm) to 1 (excited); likewise.
    public var arousal: Double

    public init(probabilities: [Double], valence: Double, arousal: Double) {
        precondition(probabilities.count == FaceExpression.allCases.count, "a probability for each expression")
        self.probabilities = probabilities
        self.valence = valence
        self.arousal = arousal
    }

    /// The likeliest expression, the first where two are equal.
    public var expression: FaceExpression {
        let best = probabilities.indices.reduce(0) { probabilities[$1] > probabilities[$0] ? $1 : $0 }
        return FaceExpression.allCases[best]
    }

    /// The probability of the likeliest expression.
    public var confidence: Double { probabilities.max() ?? 0 }

    /// The probability of one expression.
    public subscript(expression: FaceExpression) -> Double {
        probabilities[FaceExpression.allCases.firstIndex(of: expression)!]
    }

    /// Applies a function to each number of two affects.
    func combined(with other: Affect, _ combine: (Double, Double) -> Double) -> Affect {
        Affect(
            probabilities: zip(probabilities, other.probabilities).map(combine),
            valence: combine(valence, other.valence),
            arousal: combine(arousal, other.arousal)
        )
    }
}
