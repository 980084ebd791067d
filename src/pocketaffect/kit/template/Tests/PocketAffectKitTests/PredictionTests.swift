#if canImport(CoreML) && canImport(Vision)
import AffectCore
import Foundation
import PocketAffectKit
import XCTest

/// Holds Core ML's answer to the one that pocketaffect's interpreter gave. It needs a Mac.
final class PredictionTests: XCTestCase {
    private struct Golden: Decodable {
        struct Model: Decodable {
            let size: Int
            let margin: Double
            let unsureBelow: Double?
            let affect: [Double]
        }

        let model: Model
    }

    func testCoreMLAnswersAsTheInterpreterDid() async throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("AffectCoreTests/Resources/golden.json")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let asked = try decoder.decode(Golden.self, from: Data(contentsOf: file)).model
        let reader = try await AffectReader()
        XCTAssertEqual(reader.facts.inputSize, asked.size)
        XCTAssertEqual(reader.facts.cropMargin, asked.margin)
        XCTAssertEqual(reader.facts.unsureBelow, asked.unsureBelow)
        let affect = try await reader.read(crop: drawPicture(side: asked.size))
        let found = affect.probabilities + [affect.valence, affect.arousal]
        // Float16 on another processor moves probabilities by about .01.
        for (one, other) in zip(found, asked.affect) { XCTAssertEqual(one, other, accuracy: 0.02) }
    }

    /// The picture of `draw_picture` in Python: rows of red, green and blue.
    private func drawPicture(side: Int) -> [UInt8] {
        var bytes = [UInt8]()
        for y in 0..<side {
            for x in 0..<side {
                let grey = 3 * x + 5 * y + x * y / 8
                for channel in 0..<3 { bytes.append(UInt8((grey + 60 * channel) % 256)) }
            }
        }
        return bytes
    }
}
#endif
