import Foundation

/// What a package of pocketaffect says of itself: how faces are cut for it, and what its outputs mean.
public struct ModelFacts: Equatable, Sendable {
    /// Pixels a side of the network's input.
    public let inputSize: Int
    /// The share of the face box's longer side that is added at each of its ends.
    public let cropMargin: Double
    /// The probability of the likeliest expression below which the answer is unsure; `nil` where the package says
    /// nothing of it.
    public let unsureBelow: Double?
    /// Whether the network has seen drawings alone: what it says of photographs is worth little then.
    public let isTrainedOnDrawings: Bool
    private let expressionPlaces: [Int]
    private let valencePlace: Int

    /// Reads the package's own keys, `model.modelDescription.metadata[.creatorDefinedKey]`.
    public init(metadata: [String: String]) throws {
        func read<Value>(_ key: String, allowed: String, _ parse: (String) -> Value?) throws -> Value {
            guard let text = metadata[key], let value = parse(text) else {
                throw ModelFactsError(key: key, found: metadata[key], allowed: allowed)
            }
            return value
        }
        func places(_ key: String, of names: [String]) throws -> [Int] {
            try read(key, allowed: names.joined(separator: ",") + ", in any order") { text in
                let given = text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
                return given.sorted() == names.sorted() ? names.map { given.firstIndex(of: $0)! } : nil
            }
        }
        let share = { (text: String) in Double(text).flatMap { (0...1).contains($0) ? $0 : nil } }
        expressionPlaces = try places("labels", of: FaceExpression.allCases.map(\.rawValue))
        valencePlace = try places("valence_arousal_order", of: ["valence", "arousal"])[0]
        inputSize = try read("input_size", allowed: "8 to 512") { Int($0).flatMap { (8...512).contains($0) ? $0 : nil } }
        cropMargin = try read("crop_margin", allowed: "0 to 1", share)
        unsureBelow = metadata["unsure_below"] == nil ? nil : try read("unsure_below", allowed: "0 to 1", share)
        isTrainedOnDrawings = metadata["trained_on"] == "drawings"
    }

    /// Puts the network's two outputs in pocketaffect's order.
    public func affect(probabilities: [Double], valenceArousal: [Double]) -> Affect {
        Affect(
            probabilities: expressionPlaces.map { probabilities[$0] },
            valence: valenceArousal[valencePlace],
            arousal: valenceArousal[1 - valencePlace]
        )
    }

    /// Tells whether the likeliest expression is less likely than the package holds sure: say "unsure" then.
    public func isUnsure(_ affect: Affect) -> Bool {
        unsureBelow.map { affect.confidence < $0 } ?? false
    }
}

/// A key of a package's metadata that is missing or cannot be read.
public struct ModelFactsError: LocalizedError, Equatable {
    public let key: String
    /// What the package says under the key; `nil` where it says nothing.
    public let found: String?
    public let allowed: String

    public var errorDescription: String? {
        "The package's metadata say \(found.map { "\"\($0)\"" } ?? "nothing") under \(key); allowed is \(allowed)."
    }

    public var recoverySuggestion: String? {
        "Export the model again with pocketaffect, and make this kit again: pocketaffect kit MODEL DEST."
    }
}
